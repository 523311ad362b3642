"""Verdicts of ``keep_best``: a candidate against the incumbent, task by task, by paired items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.core.stats.figures import Figure
from components.core.stats.paired_difference import adjust_p_values, pair_items
from components.core.stats.report_items import ReportItems

SIGNIFICANCE_LEVEL = 0.05
"""A candidate is better where its p value, adjusted for all candidates, lies below this."""
REWARD_FIGURE = "reward.reward"
OWN_FIGURE = "own.preference"
"""Margin of the held-out pairs of a team's own."""
LOWER_IS_BETTER = ("safety.leaking", "safety.copying", "safety.degenerate")
GUARD_FIGURES = (
    "choice.four_choice_accuracy",
    "facts.trained_modules",
    "facts.trained_some_parameters",
    "facts.heldout_modules",
    "facts.heldout_some_parameters",
    OWN_FIGURE,
    *LOWER_IS_BETTER,
)
"""``task.figure`` in which a candidate must not be worse. Of parameter lists those of functions
that have parameters count: a model that says "takes no parameters" to all gains in the others."""


@dataclass(frozen=True)
class CandidateComparison:
    """Paired difference of a candidate and the incumbent in one figure."""

    name: str
    figure: Figure
    p_value: float
    detectable: float
    """Minimal detectable effect, in the figure's unit."""
    pages: int

    @property
    def is_worse(self) -> bool:
        """True where the whole interval lies on the worse side of 0."""
        if self.name in LOWER_IS_BETTER:
            return self.figure.low > 0
        return self.figure.high < 0

    def __str__(self) -> str:
        difference = self.figure
        return f"{difference.value:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}]"


@dataclass(frozen=True)
class CandidateVerdict:
    """Comparison of one candidate with the incumbent in the reward and all guards."""

    candidate: str
    reason: str = ""
    """Cause that it was not compared; empty where it was."""
    reward: CandidateComparison | None = None
    adjusted_p: float = 1.0
    """The p value of the reward's difference, adjusted for all candidates."""
    guards: Sequence[CandidateComparison] = field(default=())

    @property
    def is_better(self) -> bool:
        """True where its reward is higher beyond chance and no guard is worse."""
        if (
            self.reward is None
            or self.adjusted_p >= SIGNIFICANCE_LEVEL
            or self.reward.figure.low <= 0
        ):
            return False
        return not any(guard.is_worse for guard in self.guards)

    def __str__(self) -> str:
        if self.reward is None:
            return f"{self.candidate} {self.reason}"
        worse = [f"{guard.name} {guard}" for guard in self.guards if guard.is_worse]
        gained = self.adjusted_p < SIGNIFICANCE_LEVEL and self.reward.figure.low > 0
        ending = "better" if self.is_better else "no better"
        if gained and worse:
            ending = f"but worse in {', '.join(worse)}"
        return f"{self.candidate} {self.reward}: {ending}"

    def as_json(self) -> dict[str, Any]:
        """All figures of the verdict, for ``verdicts.json``."""
        compared = [figure for figure in (self.reward, *self.guards) if figure is not None]
        return {
            "candidate": self.candidate,
            "better": self.is_better,
            "reason": self.reason,
            "adjusted_p": self.adjusted_p,
            "said": str(self),
            "comparisons": [
                {
                    "figure": comparison.name,
                    "value": comparison.figure.value,
                    "low": comparison.figure.low,
                    "high": comparison.figure.high,
                    "n": comparison.figure.n,
                    "pages": comparison.pages,
                    "p": comparison.p_value,
                    "detectable": comparison.detectable,
                    "worse": comparison.is_worse and comparison is not self.reward,
                }
                for comparison in compared
            ],
        }


def judge_candidates(
    measured: Mapping[str, tuple[Mapping[str, ReportItems], Mapping[str, ReportItems]]],
    deciding: str = REWARD_FIGURE,
) -> list[CandidateVerdict]:
    """Give a verdict on each candidate: name -> (its items by task, the incumbent's).

    ``deciding`` is the figure in which a candidate must be better.
    """
    rewards = {name: _compare_figure(deciding, *items) for name, items in measured.items()}
    p_values = [1.0 if reward is None else reward.p_value for reward in rewards.values()]
    verdicts = []
    for (candidate, items), adjusted_p in zip(
        measured.items(), adjust_p_values(p_values), strict=True
    ):
        guards = [_compare_figure(name, *items) for name in GUARD_FIGURES if name != deciding]
        reward = rewards[candidate]
        verdicts.append(
            CandidateVerdict(
                candidate,
                reason="" if reward is not None else "not judged",
                reward=reward,
                adjusted_p=adjusted_p,
                guards=[guard for guard in guards if guard is not None],
            )
        )
    return verdicts


def choose_candidate(verdicts: Sequence[CandidateVerdict]) -> str | None:
    """Name of the better candidate that gained most; None where none is better."""
    gains = {
        verdict.candidate: verdict.reward.figure.value
        for verdict in verdicts
        if verdict.is_better and verdict.reward is not None
    }
    return max(gains, key=lambda name: gains[name]) if gains else None


def _compare_figure(
    name: str, ours: Mapping[str, ReportItems], theirs: Mapping[str, ReportItems]
) -> CandidateComparison | None:
    """The paired difference of one figure; None below two shared pages."""
    task, _, figure = name.partition(".")
    pairs = pair_items(figure, ours.get(task), theirs.get(task))
    if pairs.pages < 2:
        return None
    return CandidateComparison(
        name,
        pairs.difference(figure),
        pairs.p_value(figure),
        pairs.detectable_effect(figure),
        pairs.pages,
    )
