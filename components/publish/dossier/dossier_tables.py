"""Tables of a dossier: figures by report, verdicts, seconds. No text in them is escaped yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from components.core.stats.figures import Figure
from components.publish.dossier import svg_charts
from components.publish.dossier.dossier_facts import DossierFacts
from models.shape import RopeScaling, ShapeExtras

HEADLINES = 4
"""Figures that stand at the top of the page."""
_TECHNICAL = ("check", "parity", "smoke")
"""Reports that say that a version is sound, not what it can do."""
_SMALL_SHARE = 0.01
"""Stages below this share of all seconds are told as one."""


@dataclass(frozen=True)
class ComparedFigure:
    """One figure beside the champion's."""

    name: str
    ours: Figure
    theirs: Figure | None
    picture: str


@dataclass(frozen=True)
class FigureGroup:
    """The figures of one report: those that a gate looks at, and the others."""

    name: str
    judged: list[ComparedFigure]
    others: list[ComparedFigure]


@dataclass(frozen=True)
class Bar:
    """A named quantity, and its share of the largest."""

    name: str
    value: float
    share: float


def words(name: str) -> str:
    """Words of an identifier: ``difference_faithful`` as one reads it."""
    return name.replace("_", " ")


_NAMES = {
    "kv_heads": "key and value heads",
    "norm_eps": "epsilon of the norms",
    "qk_norm": "norm of queries and keys",
    "tied": "embedding and output tied",
    "full_layers": "layers that see everything",
    "window": "window, in positions",
}
"""Fields of a shape in other words than their own."""
_USUAL = {"rope": asdict(RopeScaling()), "extras": asdict(ShapeExtras())}
"""Parts of a shape of which only what is unusual is told."""


def shape_rows(shape: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A model's shape as (name, value) in words; what it does not have is left out."""
    rows: list[tuple[str, str]] = []
    for name, value in shape.items():
        if isinstance(value, Mapping):
            usual = _USUAL.get(name, {})
            rows += [
                (words(f"{name}, {inner}"), _in_words(inner_value))
                for inner, inner_value in value.items()
                if not _is_absent(inner_value)
                and (inner not in usual or inner_value != usual[inner])
            ]
        elif not _is_absent(value):
            rows.append((_NAMES.get(name, words(name)), _in_words(value)))
    return rows


def _is_absent(value: Any) -> bool:
    return value is None or value in ("", "none", [], ())


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return svg_charts.format_number(value)
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def group_figures(facts: DossierFacts) -> list[FigureGroup]:
    """Group every figure by report; those of the model come before those of its data.

    Where no gate has judged the version, all figures of a report count alike.
    """
    wanted = {gate["figure"] for gate in facts.gates}
    by_report: dict[str, FigureGroup] = {}
    for name, ours in facts.figures.items():
        report, _, rest = name.partition(".")
        group = by_report.setdefault(report, FigureGroup(report, [], []))
        theirs = facts.champion_figures.get(name)
        picture = svg_charts.draw_intervals(name, _span(ours), _span(theirs)) if theirs else ""
        row = ComparedFigure(words(rest or name), ours, theirs, picture)
        (group.judged if not wanted or name in wanted else group.others).append(row)
    return sorted(by_report.values(), key=lambda group: group.name in _TECHNICAL)


def choose_headlines(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The first few verdicts on what the model can do, each with a name to read."""
    chosen = [
        {**gate, "name": words(gate["figure"].rpartition(".")[2])}
        for gate in gates
        if gate["low"] != gate["high"]
        and not gate["rule"]
        and gate["figure"].partition(".")[0] not in _TECHNICAL
    ]
    return chosen[:HEADLINES]


def draw_verdicts(gates: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Verdicts with a picture each, where there is a bound to draw."""
    return [{**gate, "picture": _picture(gate)} for gate in gates]


def _picture(gate: Mapping[str, Any]) -> str:
    if gate["bound"] is None:
        return ""
    interval = svg_charts.IntervalMark(gate["value"], gate["low"], gate["high"])
    upwards = gate["direction"] in ("at least", "above")
    return svg_charts.draw_gate(gate["figure"], interval, gate["bound"], upwards)


def make_bars(rows: Sequence[tuple[str, float]]) -> list[Bar]:
    """Quantities beside the largest of them."""
    most = max((value for _, value in rows), default=0.0) or 1.0
    return [Bar(name, value, value / most) for name, value in rows]


def sum_costs(facts: DossierFacts, hour: float | None) -> Mapping[str, Any]:
    """Seconds of every stage behind the version, and their price."""
    rows = [(facts.run_stages.of(node), node.stats.get("seconds", 0.0)) for node in facts.chain]
    rows.sort(key=lambda row: -row[1])
    total = sum(seconds for _, seconds in rows)
    large = [row for row in rows if row[1] >= _SMALL_SHARE * total]
    small = rows[len(large) :]
    if len(small) > 1:
        rows = [*large, (f"{len(small)} others", sum(seconds for _, seconds in small))]
    price = None if hour is None else hour * total / 3600
    return {"rows": make_bars(rows), "small": small, "total": total, "price": price}


def _span(figure: Figure) -> svg_charts.IntervalMark:
    return svg_charts.IntervalMark(figure.value, figure.low, figure.high)
