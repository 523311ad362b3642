"""Verdicts of ``keep_best``: one candidate beside the incumbent, task by task, by paired items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.core.stats.figures import Figure
from components.core.stats.paired_difference import holm, pair_items
from components.core.stats.report_items import Items

LEVEL = 0.05
"""Of the p value, adjusted for all candidates, below which a candidate is better."""
REWARD = "reward.reward"
LOWER_IS_BETTER = ("safety.leaking", "safety.copying", "safety.degenerate")
GUARDS = (
    "choice.four_choice_accuracy",
    "facts.trained_modules",
    "facts.trained_some_parameters",
    "facts.heldout_modules",
    "facts.heldout_some_parameters",
    *LOWER_IS_BETTER,
)
"""``task.figure`` in which a candidate must not be worse. Of parameter lists those of functions
that have parameters count: a model that says "takes no parameters" to all gains in the others."""


@dataclass(frozen=True)
class Comparison:
    """A candidate less the incumbent in one figure."""

    name: str
    figure: Figure
    p_value: float
    detectable: float
    """Minimal detectable effect, in the figure's unit."""
    pages: int

    @property
    def is_worse(self) -> bool:
        """Whether the whole interval lies on the worse side of 0."""
        if self.name in LOWER_IS_BETTER:
            return self.figure.low > 0
        return self.figure.high < 0

    def __str__(self) -> str:
        found = self.figure
        return f"{found.value:+.3f} [{found.low:+.3f}, {found.high:+.3f}]"


@dataclass(frozen=True)
class Verdict:
    """What was found out about one candidate."""

    candidate: str
    reason: str = ""
    """Why it was not compared; empty where it was."""
    reward: Comparison | None = None
    adjusted_p: float = 1.0
    """The p value of the reward's difference, adjusted for all candidates."""
    guards: Sequence[Comparison] = field(default=())

    @property
    def is_better(self) -> bool:
        """Whether its reward is higher beyond chance, and nothing is worse."""
        if self.reward is None or self.adjusted_p >= LEVEL or self.reward.figure.low <= 0:
            return False
        return not any(guard.is_worse for guard in self.guards)

    def __str__(self) -> str:
        if self.reward is None:
            return f"{self.candidate} {self.reason}"
        worse = [f"{guard.name} {guard}" for guard in self.guards if guard.is_worse]
        gained = self.adjusted_p < LEVEL and self.reward.figure.low > 0
        ending = "better" if self.is_better else "no better"
        if gained and worse:
            ending = f"but worse in {', '.join(worse)}"
        return f"{self.candidate} {self.reward}: {ending}"

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON holds it."""
        compared = [one for one in (self.reward, *self.guards) if one is not None]
        return {
            "candidate": self.candidate,
            "better": self.is_better,
            "reason": self.reason,
            "adjusted_p": self.adjusted_p,
            "said": str(self),
            "comparisons": [
                {
                    "figure": one.name,
                    "value": one.figure.value,
                    "low": one.figure.low,
                    "high": one.figure.high,
                    "n": one.figure.n,
                    "pages": one.pages,
                    "p": one.p_value,
                    "detectable": one.detectable,
                    "worse": one.is_worse and one is not self.reward,
                }
                for one in compared
            ],
        }


def compare_items(
    measured: Mapping[str, tuple[Mapping[str, Items], Mapping[str, Items]]],
) -> list[Verdict]:
    """A verdict on each candidate: name -> (its items by task, the incumbent's)."""
    rewards = {name: _compare(REWARD, *both) for name, both in measured.items()}
    p_values = [1.0 if reward is None else reward.p_value for reward in rewards.values()]
    verdicts = []
    for (name, both), adjusted in zip(measured.items(), holm(p_values), strict=True):
        guards = [_compare(guard, *both) for guard in GUARDS]
        reward = rewards[name]
        verdicts.append(
            Verdict(
                name,
                reason="" if reward is not None else "not judged",
                reward=reward,
                adjusted_p=adjusted,
                guards=[guard for guard in guards if guard is not None],
            )
        )
    return verdicts


def decide(verdicts: Sequence[Verdict]) -> str | None:
    """The better candidate that gained most; None where none is better."""
    gains = {
        verdict.candidate: verdict.reward.figure.value
        for verdict in verdicts
        if verdict.is_better and verdict.reward is not None
    }
    return max(gains, key=lambda name: gains[name]) if gains else None


def _compare(
    name: str, ours: Mapping[str, Items], theirs: Mapping[str, Items]
) -> Comparison | None:
    """The paired difference of one figure; None below two shared pages."""
    task, _, figure = name.partition(".")
    pairs = pair_items(figure, ours.get(task), theirs.get(task))
    if pairs.pages < 2:
        return None
    return Comparison(
        name,
        pairs.difference(figure),
        pairs.p_value(figure),
        pairs.detectable(figure),
        pairs.pages,
    )
