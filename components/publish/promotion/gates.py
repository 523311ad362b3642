"""Gates as data: bounds on figures that a version must keep to become the champion.

A gate looks at a figure's value or at an end of its 95 % interval, so "the interval lies above
25 %" is ``on: low, direction: above, bound: 0.25``. A bound may also name another figure, and a
``*`` in a figure's name makes a gate for each that fits: ``parity.*.kl_mean``. That a challenger is
no worse than the champion, or better, is a gate as well (``champion_comparison.py``).
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
    """One bound on one figure."""

    name: str = Field(min_length=1, description="name of the gate, shown with its verdict")
    figure: str = Field(
        min_length=1, description="report and figure: choice.accuracy; * stands for anything"
    )
    direction: Direction = Field(description="side of the bound on which the figure must lie")
    bound: float | str = Field(description="a number, or another figure whose value it is")
    on: End = Field(default="value", description="the value, or an end of its 95 % interval")


class Comparison(StageConfig):
    """A figure in which a challenger must hold its own against the champion."""

    figure: str = Field(min_length=1, description="report and figure: choice.accuracy")
    better: Literal["higher", "lower"] = Field(description="direction of improvement")
    margin: float | None = Field(
        default=None,
        ge=0,
        description="least improvement, in the figure's unit; null: no worse is enough",
    )
    least_pairs: int = Field(
        default=30, ge=2, description="shared items below which each one's own interval is used"
    )
    least_pages: int = Field(
        default=8, ge=2, description="shared pages below which each one's own interval is used"
    )


class GateVerdict(BaseModel):
    """A gate's finding, with everything needed to judge it again."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True
    )

    gate: str
    figure: str
    value: float
    low: float
    high: float
    n: int = Field(description="number of pages, questions or pairs behind the figure")
    on: End
    compared: float = Field(
        validation_alias="found",
        serialization_alias="found",  # its name in records that are on disk already
        description="the end that was held against the bound",
    )
    direction: Direction
    bound: float | None = Field(
        description="bound as a number; None if there was no value to compare with"
    )
    bound_is: str = Field(default="", description="description of a bound that is no plain number")
    rule: str = Field(
        default="", description="method by which a challenger was compared with the champion"
    )
    pairs: int | None = Field(default=None, description="items that both versions were asked")
    pages: int | None = Field(default=None, description="pages that these come from")
    passes: bool

    def __str__(self) -> str:
        which = self.figure if self.on == "value" else f"{self.on} end of {self.figure}"
        named = f" ({self.bound_is})" if self.bound_is else ""
        over = f" [{self.rule}]" if self.rule else ""
        bound = "nothing" if self.bound is None else f"{self.bound:.4g}"
        return (
            f"gate {self.gate}: {which} is {self.compared:.4g}, "
            f"must be {self.direction} {bound}{named}{over}"
        )


def judge_gates(gates: Sequence[Gate], figures: Mapping[str, Figure]) -> list[GateVerdict]:
    """A verdict for each gate, in their order; several where its figure's name holds a ``*``.

    Raises:
        ConfigError: a gate names a figure that was not measured.
    """
    verdicts: list[GateVerdict] = []
    for gate in gates:
        named = gate.bound if isinstance(gate.bound, str) else ""
        bound = find_figure(gate.name, named, figures).value if named else float(gate.bound)
        for name in _matching(gate, figures):
            verdicts.append(
                check_bound(
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


def check_bound(
    gate: str,
    name: str,
    figure: Figure,
    *,
    on: End,
    direction: Direction,
    bound: float | None,
    **notes: Any,
) -> GateVerdict:
    """Hold one end of a figure against a bound.

    Args:
        gate: name of the gate.
        name: name of the figure: ``choice.accuracy``.
        figure: value and interval.
        on: the value, or an end of the interval.
        direction: where it must lie, seen from the bound.
        bound: None lets it pass.
        notes: more fields of the verdict: ``bound_is``, ``rule``, ``pairs``, ``pages``.
    """
    compared = float(getattr(figure, on))
    return GateVerdict(
        gate=gate,
        figure=name,
        value=figure.value,
        low=figure.low,
        high=figure.high,
        n=figure.n,
        on=on,
        compared=compared,
        direction=direction,
        bound=bound,
        passes=bound is None or _HOLDS[direction](compared, bound),
        **notes,
    )


def describe_refusal(refused: Sequence[GateVerdict]) -> str:
    """The first gate of ``refused`` with its figure and bound, and how many there are."""
    more = f" ({len(refused)} gates refused in all)" if len(refused) > 1 else ""
    return f"{refused[0]}{more}"


def require_passed(verdicts: Sequence[GateVerdict]) -> None:
    """Require that every gate let the version through.

    Raises:
        GateFailed: names the first gate that refused, figure and bound, and counts the rest.
    """
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        raise GateFailed(f"{describe_refusal(refused)}: not promoted")


def dump_verdicts(verdicts: Sequence[GateVerdict]) -> list[dict[str, Any]]:
    """The verdicts as JSON holds them."""
    return [verdict.model_dump(mode="json", by_alias=True) for verdict in verdicts]


def _matching(gate: Gate, figures: Mapping[str, Figure]) -> list[str]:
    if "*" in gate.figure:
        matching = sorted(name for name in figures if fnmatchcase(name, gate.figure))
        if matching:
            return matching
    find_figure(gate.name, gate.figure, figures)
    return [gate.figure]


def find_figure(gate: str, name: str, figures: Mapping[str, Figure]) -> Figure:
    """A figure by name.

    Args:
        gate: name of the gate that asks; named in the error.
        name: ``report.figure``.
        figures: everything that was measured.

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
