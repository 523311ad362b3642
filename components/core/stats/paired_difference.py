"""Paired difference between two models over the items both were asked, with an interval.

Pairs are made by the keys of ``components/core/stats/report_items.py``. Pages are resampled, never
questions, since those about one page resemble each other. The interval is the percentile
bootstrap's, expanded for few pages (Hesterberg 2015, doi 10.1080/00031305.2015.1089789, section
4.3): its quantiles are those that make it as wide as Student's t asks for; plain percentiles of ten
pages are 18 % too narrow, and noise would pass more often than it should.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from components.core.stats.figures import Z_95, Figure
from components.core.stats.report_items import ReportItems

RESAMPLES = 10_000
_AT_ONCE = 4_000_000
Z_POWER = 0.8416212335729143
"""The 80 % quantile of the standard normal distribution: the usual power of a test."""


@dataclass(frozen=True)
class ItemPairs:
    """Items that two models were both asked, summed by page."""

    count: int
    """Number of items that both hold."""
    gaps: NDArray[np.float64]
    """[pages] ours minus theirs."""
    weights: NDArray[np.float64]
    """[pages]"""

    @property
    def pages(self) -> int:
        return len(self.gaps)

    def difference(self, name: str) -> Figure:
        """Ours minus theirs in the figure's own unit, with its 95 % interval; ``n`` counts pairs.

        Raises:
            ValueError: fewer than two pages: nothing is known of how they differ.
        """
        tail = expanded_tail(self.pages)
        low, high = np.quantile(self._resampled(name), [tail, 1 - tail])
        return Figure(name=name, value=self._mean, low=float(low), high=float(high), n=self.count)

    def p_value(self, name: str) -> float:
        """Two-sided p of no difference, of the same expanded bootstrap as the interval.

        The share of resampled differences beyond 0 (one more on each side, so that it is never 0:
        Davison & Hinkley 1997, section 4.2) is taken back through the expansion to Student's t,
        and that to a normal deviate (Wallace 1959, doi 10.1214/aoms/1177706208).
        """
        resampled = self._resampled(name)
        beyond = min((resampled <= 0).sum(), (resampled >= 0).sum())
        share = min(0.5, (float(beyond) + 1.0) / (len(resampled) + 1.0))
        freedom = self.pages - 1
        student = NormalDist().inv_cdf(1.0 - share) * math.sqrt(freedom / self.pages)
        deviate = math.sqrt(freedom * math.log1p(student**2 / freedom))
        deviate *= (8 * freedom + 1) / (8 * freedom + 3)
        return 2.0 * NormalDist().cdf(-deviate)

    def detectable_effect(self, name: str) -> float:
        """Minimal detectable effect: the true difference that 80 % of such trials would show.

        (z_97.5 + z_80) standard errors (Bloom 1995, doi 10.1177/0193841X9501900504).
        """
        return (Z_95 + Z_POWER) * float(self._resampled(name).std())

    @property
    def _mean(self) -> float:
        return float(self.gaps.sum() / self.weights.sum())

    def _resampled(self, name: str) -> NDArray[np.float64]:
        """Differences over ``RESAMPLES`` draws of pages; equal pairs give equal draws."""
        if self.pages < 2:
            raise ValueError(f"{name}: {self.pages} pages have no interval")
        generator = np.random.default_rng(0)
        step = max(1, _AT_ONCE // self.pages)
        means = []
        for done in range(0, RESAMPLES, step):
            size = (min(step, RESAMPLES - done), self.pages)
            rows = generator.integers(0, self.pages, size=size)
            weights = np.maximum(self.weights[rows].sum(1), 1e-300)
            means.append(self.gaps[rows].sum(1) / weights)
        return np.concatenate(means)


def pair_items(name: str, ours: ReportItems | None, theirs: ReportItems | None) -> ItemPairs:
    """Pair the items of a figure by key; no pairs where either kept no item of it.

    Args:
        name: name of the figure.
        ours: items of one model.
        theirs: items of the other.
    """
    if ours is None or theirs is None or name not in ours.values or name not in theirs.values:
        return ItemPairs(0, np.empty(0), np.empty(0))
    at = {key: index for index, key in enumerate(theirs.keys)}
    our_rows, their_rows = (np.isfinite(items.values[name]) for items in (ours, theirs))
    # Equal keys mean an equal question; a different weight would contradict that.
    rows = [
        (mine, at[key])
        for mine, key in enumerate(ours.keys)
        if key in at
        and ours.weights[mine] == theirs.weights[at[key]]
        and our_rows[mine]
        and their_rows[at[key]]
    ]
    left, right = np.array(rows, dtype=np.int64).reshape(-1, 2).T
    gaps = ours.values[name][left] - theirs.values[name][right]
    pages = np.unique(np.array(ours.pages)[left], return_inverse=True)[1]
    return ItemPairs(len(rows), _sum_by_page(pages, gaps), _sum_by_page(pages, ours.weights[left]))


def _sum_by_page(pages: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.bincount(pages, weights=values), dtype=np.float64)


def expanded_tail(pages: int) -> float:
    """The quantile to take instead of 2.5 %: Φ(-t √(n / (n - 1))), t with n - 1 degrees."""
    freedom = pages - 1
    z = Z_95
    # Student's 97.5 % quantile by the Cornish-Fisher series (Abramowitz & Stegun 26.7.5): within
    # 0.4 % of the true one from eight degrees of freedom on.
    student = (
        z
        + (z**3 + z) / (4 * freedom)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * freedom**3)
    )
    return NormalDist().cdf(-student * math.sqrt(pages / freedom))


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): p below 5 % keeps the family-wise error at 5 %."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        adjusted[at] = largest
    return adjusted
