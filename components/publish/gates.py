"""Gates, as data: which figure must lie where before a model may become the champion.

A gate looks at a figure's value or at an end of its 95 % interval, so "the interval lies above
25 %" is ``on: low, direction: above, bound: 0.25``. A bound may also name another figure. Whether
a challenger is no worse than the champion is a gate as well: its interval must reach the
champion's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.core.config import StageConfig
from components.core.errors import ConfigError, GateFailed
from components.core.figures import Figure

Direction = Literal["above", "below", "at least", "at most"]
End = Literal["value", "low", "high"]

_HOLDS: dict[Direction, Callable[[float, float], bool]] = {
    "above": operator.gt,
    "below": operator.lt,
    "at least": operator.ge,
    "at most": operator.le,
}


class Gate(StageConfig):
    """One demand on one figure."""

    name: str = Field(min_length=1, description="what it guards; named when it refuses")
    figure: str = Field(min_length=1, description="report and figure: choice.accuracy")
    direction: Direction = Field(description="where the figure must lie, seen from the bound")
    bound: float | str = Field(description="a number, or another figure whose value it is")
    on: End = Field(default="value", description="the value, or an end of its 95 % interval")


class Comparison(StageConfig):
    """A figure in which a challenger must not be worse than the champion."""

    figure: str = Field(min_length=1, description="report and figure: choice.accuracy")
    better: Literal["higher", "lower"] = Field(description="which way is better")


class Verdict(BaseModel):
    """What one gate found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str
    figure: str
    on: End
    found: float
    direction: Direction
    bound: float
    bound_is: str = Field(default="", description="what the bound is, where it is no plain number")
    passes: bool

    def __str__(self) -> str:
        which = self.figure if self.on == "value" else f"{self.on} end of {self.figure}"
        named = f" ({self.bound_is})" if self.bound_is else ""
        return (
            f"gate {self.gate}: {which} is {self.found:.4g}, "
            f"must be {self.direction} {self.bound:.4g}{named}"
        )


def judge(gates: Sequence[Gate], figures: Mapping[str, Figure]) -> list[Verdict]:
    """A verdict for each gate, in their order.

    Raises:
        ConfigError: a gate names a figure that was not measured.
    """
    verdicts: list[Verdict] = []
    for gate in gates:
        found = float(getattr(_figure(gate, gate.figure, figures), gate.on))
        named = gate.bound if isinstance(gate.bound, str) else ""
        bound = _figure(gate, named, figures).value if named else float(gate.bound)
        verdicts.append(_verdict(gate, found, bound, named))
    return verdicts


def compare(
    comparisons: Sequence[Comparison],
    challenger: Mapping[str, Figure],
    champion: Mapping[str, Figure],
) -> list[Verdict]:
    """Refuses where the challenger's whole interval lies on the worse side of the champion's.

    A figure that the champion was never measured by holds nobody back.

    Raises:
        ConfigError: the challenger was not measured by a figure to compare.
    """
    verdicts: list[Verdict] = []
    for comparison in comparisons:
        higher = comparison.better == "higher"
        gate = Gate(
            name=f"no worse than the champion in {comparison.figure}",
            figure=comparison.figure,
            direction="at least" if higher else "at most",
            bound=0.0,
            on="high" if higher else "low",
        )
        ours = _figure(gate, comparison.figure, challenger)
        theirs = champion.get(comparison.figure)
        if theirs is not None:
            found, bound = (ours.high, theirs.low) if higher else (ours.low, theirs.high)
            end = "low" if higher else "high"
            verdicts.append(_verdict(gate, found, bound, f"the champion's {end} end"))
    return verdicts


def demand(verdicts: Sequence[Verdict]) -> None:
    """Raises:
    GateFailed: names the first gate that refused, its figure and its bound, and counts the rest.
    """
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        more = f" ({len(refused)} gates refused in all)" if len(refused) > 1 else ""
        raise GateFailed(f"{refused[0]}{more}")


def record(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON holds them."""
    return [verdict.model_dump(mode="json") for verdict in verdicts]


def _verdict(gate: Gate, found: float, bound: float, bound_is: str) -> Verdict:
    return Verdict(
        gate=gate.name,
        figure=gate.figure,
        on=gate.on,
        found=found,
        direction=gate.direction,
        bound=bound,
        bound_is=bound_is,
        passes=_HOLDS[gate.direction](found, bound),
    )


def _figure(gate: Gate, name: str, figures: Mapping[str, Figure]) -> Figure:
    if name not in figures:
        raise ConfigError(
            f"gate {gate.name}: {name} was not measured; figures: {', '.join(sorted(figures))}"
        )
    return figures[name]
