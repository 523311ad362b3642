"""Bounds at a quantile of the corpus at hand.

A probability means another thing on another kind of page: a classifier that learnt from one crawl
ranks the pages of another nearly as well, and its 0.5 lies elsewhere. A quantile holds the share
instead. It is taken of the documents that pass every bound with a fixed value, before copies are
dropped, so that neither pages in a foreign language nor menus move it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from components.clean.selection_rule import BoundsRule, ScoredShard
from components.core.stats.source_losses import source_name

MIN_GROUP_DOCUMENTS = 100
"""Fewest documents of a language or site with quantiles of their own: the median of 100 lies
within ten percentiles of the true one in 19 draws of 20. Smaller groups take the corpus's."""
QUANTILES_FILE = "quantile_bounds.json"
WHOLE_CORPUS = ""
"""Group of all documents."""


@dataclass(frozen=True)
class QuantileBound:
    """Value of one bound for one group of documents, and what it was taken of."""

    bound: str
    """``role.min_x``"""
    group: str
    """Language or site; empty for the whole corpus."""
    quantile: float
    documents: int
    value: float


def measure_quantile_bounds(
    rules: Sequence[BoundsRule], passing: Iterable[tuple[ScoredShard, list[int]]]
) -> list[QuantileBound]:
    """Bounds of all groups, sorted by bound and group.

    Args:
        rules: Rules with scores to read.
        passing: Every shard of the corpus with the rows that pass every fixed bound.
    """
    scores: dict[tuple[str, str], list[NDArray[np.float64]]] = {}
    quantiles: dict[str, float] = {}
    for shard, rows in passing:
        for rule in rules:
            groups = np.array(_group_names(rule.quantiles_by, shard), dtype=np.str_)[rows]
            names, group_numbers = np.unique(groups, return_inverse=True)
            order = np.argsort(group_numbers, kind="stable")
            edges = np.flatnonzero(np.diff(group_numbers[order])) + 1
            for name, quantile in rule.quantiles.items():
                bound, column = _names_in_scores(rule, name)
                quantiles[bound] = quantile
                values = shard.numbers(rule.roles[0], column)[rows]
                parts = dict(zip(names.tolist(), np.split(values[order], edges), strict=False))
                for group, chosen in {**parts, WHOLE_CORPUS: values}.items():
                    scores.setdefault((bound, group), []).append(chosen[~np.isnan(chosen)])
    measured = []
    for (bound, group), shares in sorted(scores.items()):
        values = np.concatenate(shares)
        if len(values) >= (MIN_GROUP_DOCUMENTS if group != WHOLE_CORPUS else 1):
            # A score that occurs, on the side that keeps: equal scores meet one verdict.
            method: Literal["lower", "higher"] = "lower" if ".min_" in bound else "higher"
            value = float(np.quantile(values, quantiles[bound], method=method))
            measured.append(QuantileBound(bound, group, quantiles[bound], len(values), value))
    return measured


def bounds_of_documents(
    rules: Sequence[BoundsRule], measured: Sequence[QuantileBound], shard: ScoredShard
) -> Mapping[str, NDArray[np.float64]]:
    """Bound as ``role.min_x`` -> its value for each document of a shard, that of its group first.

    Args:
        rules: Rules with scores to read.
        measured: Bounds of all groups.
        shard: The documents.
    """
    values = {(bound.bound, bound.group): bound.value for bound in measured}
    columns: dict[str, NDArray[np.float64]] = {}
    for rule in rules:
        groups = _group_names(rule.quantiles_by, shard) if rule.quantiles else []
        for name in rule.quantiles:
            bound, _ = _names_in_scores(rule, name)
            general = values.get((bound, WHOLE_CORPUS), np.nan)
            columns[bound] = np.array([values.get((bound, group), general) for group in groups])
    return columns


def quantile_records(measured: Sequence[QuantileBound]) -> list[dict[str, Any]]:
    """Rows of ``QUANTILES_FILE``."""
    return [dict(vars(bound)) for bound in measured]


def _names_in_scores(rule: BoundsRule, name: str) -> tuple[str, str]:
    """(``role.min_x``, ``x``) of a bound."""
    return f"{rule.roles[0]}.{name}", name.partition("_")[2]


def _group_names(by: Literal["corpus", "language", "site"], shard: ScoredShard) -> list[str]:
    """Group of each document."""
    if by == "language":
        return [language or WHOLE_CORPUS for language in shard.column("language", "language")]
    if by == "site":
        return [source_name(url) for url in shard.documents["url"].to_pylist()]
    return [WHOLE_CORPUS] * len(shard.documents)
