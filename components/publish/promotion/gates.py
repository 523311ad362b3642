"""Gates, as data: which figure must lie where before a model may become the champion.

A gate looks at a figure's value or at an end of its 95 % interval, so "the interval lies above
25 %" is ``on: low, direction: above, bound: 0.25``. A bound may also name another figure, and a
``*`` in a figure's name makes a gate for each that fits: ``parity.*.kl_mean``. Whether a
challenger is no worse than the champion, or better, is a gate as well (``rivalry.py``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, GateFailed
from components.core.stats.figures import Figure

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
    figure: str = Field(
        min_length=1, description="report and figure: choice.accuracy; * stands for anything"
    )
    direction: Direction = Field(description="where the figure must lie, seen from the bound")
    bound: float | str = Field(description="a number, or another figure whose value it is")
    on: End = Field(default="value", description="the value, or an end of its 95 % interval")


class Comparison(StageConfig):
    """A figure in which a challenger must hold its own against the champion."""

    figure: str = Field(min_length=1, description="report and figure: choice.accuracy")
    better: Literal["higher", "lower"] = Field(description="which way is better")
    margin: float | None = Field(
        default=None, ge=0, description="how much better it must be; without one, no worse will do"
    )
    least_pairs: int = Field(
        default=30, ge=2, description="shared items below which each one's own interval is used"
    )
    least_pages: int = Field(default=8, ge=2, description="the same of pages they come from")


class Verdict(BaseModel):
    """What one gate found: all that is needed to judge it again."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gate: str
    figure: str
    value: float
    low: float
    high: float
    n: int = Field(description="how many pages, questions or pairs the figure rests on")
    on: End
    found: float = Field(description="the end that was held against the bound")
    direction: Direction
    bound: float | None = Field(description="None where there was nothing to hold it against")
    bound_is: str = Field(default="", description="what the bound is, where it is no plain number")
    rule: str = Field(default="", description="how a challenger was compared with the champion")
    pairs: int | None = Field(default=None, description="items that both versions were asked")
    pages: int | None = Field(default=None, description="pages that these come from")
    passes: bool

    def __str__(self) -> str:
        which = self.figure if self.on == "value" else f"{self.on} end of {self.figure}"
        named = f" ({self.bound_is})" if self.bound_is else ""
        over = f" [{self.rule}]" if self.rule else ""
        bound = "nothing" if self.bound is None else f"{self.bound:.4g}"
        return (
            f"gate {self.gate}: {which} is {self.found:.4g}, "
            f"must be {self.direction} {bound}{named}{over}"
        )


def judge(gates: Sequence[Gate], figures: Mapping[str, Figure]) -> list[Verdict]:
    """A verdict for each gate, in their order; several where its figure's name holds a ``*``.

    Raises:
        ConfigError: a gate names a figure that was not measured.
    """
    verdicts: list[Verdict] = []
    for gate in gates:
        named = gate.bound if isinstance(gate.bound, str) else ""
        bound = measured(gate.name, named, figures).value if named else float(gate.bound)
        for name in _matching(gate, figures):
            verdicts.append(
                verdict(
                    gate.name,
                    name,
                    figures[name],
                    on=gate.on,
                    direction=gate.direction,
                    bound=bound,
                    bound_is=named,
                )
            )
    return verdicts


def verdict(
    gate: str,
    name: str,
    figure: Figure,
    *,
    on: End,
    direction: Direction,
    bound: float | None,
    **told: Any,
) -> Verdict:
    """Hold one end of a figure against a bound; without one it passes. ``told`` is kept with it."""
    found = float(getattr(figure, on))
    return Verdict(
        gate=gate,
        figure=name,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        n=figure.n,
        on=on,
        found=found,
        direction=direction,
        bound=bound,
        passes=bound is None or _HOLDS[direction](found, bound),
        **told,
    )


def refusal(refused: Sequence[Verdict]) -> str:
    """The first gate of ``refused`` with its figure and bound, and how many there are."""
    more = f" ({len(refused)} gates refused in all)" if len(refused) > 1 else ""
    return f"{refused[0]}{more}"


def demand(verdicts: Sequence[Verdict]) -> None:
    """Raises:
    GateFailed: names the first gate that refused, its figure and its bound, and counts the rest.
    """
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        raise GateFailed(f"{refusal(refused)}: not promoted")


def record(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON holds them."""
    return [verdict.model_dump(mode="json") for verdict in verdicts]


def _matching(gate: Gate, figures: Mapping[str, Figure]) -> list[str]:
    if "*" in gate.figure:
        found = sorted(name for name in figures if fnmatchcase(name, gate.figure))
        if found:
            return found
    measured(gate.name, gate.figure, figures)
    return [gate.figure]


def measured(gate: str, name: str, figures: Mapping[str, Figure]) -> Figure:
    """A figure by name.

    Raises:
        ConfigError: it was not measured; names what its report did measure.
    """
    if name in figures:
        return figures[name]
    report = name.partition(".")[0]
    beside = sorted(known for known in figures if known.startswith(f"{report}."))
    if beside:
        raise ConfigError(f"gate {gate}: {name} was not measured; figures: {', '.join(beside)}")
    reports = sorted({known.partition(".")[0] for known in figures})
    raise ConfigError(
        f"gate {gate}: {name} was not measured, there is no report {report!r}; "
        f"reports: {', '.join(reports) or 'none'}"
    )
