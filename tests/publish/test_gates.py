from __future__ import annotations

import pytest

from components.core.errors import ConfigError, GateFailed
from components.core.figures import Figure, exact
from components.publish.gates import Comparison, Direction, End, Gate, compare, demand, judge

FIGURES = {
    "loss.bits_per_byte": Figure(name="bits_per_byte", value=1.2, low=1.1, high=1.3),
    "loss.xz": exact("xz", 1.4),
    "compare.win_rate": exact("win_rate", 0.0),
}


@pytest.mark.parametrize(
    ("direction", "bound", "on", "passes"),
    [
        ("below", 1.25, "value", True),
        ("below", 1.25, "high", False),
        ("above", 1.1, "low", False),
        ("at least", 1.1, "low", True),
        ("at most", 1.3, "high", True),
        ("below", "loss.xz", "high", True),
        ("above", "loss.xz", "value", False),
    ],
)
def test_a_gate_holds_one_end_of_a_figure_against_its_bound(
    direction: Direction, bound: float | str, on: End, passes: bool
) -> None:
    gate = Gate(name="g", figure="loss.bits_per_byte", direction=direction, bound=bound, on=on)
    (verdict,) = judge([gate], FIGURES)
    assert verdict.passes is passes


def test_an_interval_that_touches_zero_is_not_above_it() -> None:
    gate = Gate(name="g", figure="compare.win_rate", direction="above", bound=0, on="low")
    assert not judge([gate], FIGURES)[0].passes


def test_a_refusal_names_gate_figure_and_bound() -> None:
    gates = [
        Gate(name="floor", figure="loss.bits_per_byte", direction="below", bound=1.0, on="high"),
        Gate(name="xz", figure="loss.bits_per_byte", direction="above", bound="loss.xz"),
    ]
    with pytest.raises(GateFailed) as refused:
        demand(judge(gates, FIGURES))
    assert str(refused.value) == (
        "gate floor: high end of loss.bits_per_byte is 1.3, must be below 1 "
        "(2 gates refused in all)"
    )


def test_a_gate_on_a_figure_nobody_measured_names_those_there_are() -> None:
    gate = Gate(name="g", figure="loss.nats", direction="below", bound=1)
    with pytest.raises(ConfigError, match=r"loss.nats was not measured; figures: compare.win_rate"):
        judge([gate], FIGURES)


@pytest.mark.parametrize(
    ("better", "ours", "theirs", "passes"),
    [
        ("higher", (0.4, 0.5), (0.51, 0.6), False),
        ("higher", (0.4, 0.5), (0.5, 0.6), True),
        ("lower", (1.1, 1.2), (1.0, 1.05), False),
        ("lower", (1.0, 1.2), (1.0, 1.05), True),
    ],
)
def test_only_an_interval_wholly_on_the_worse_side_is_refused(
    better: str, ours: tuple[float, float], theirs: tuple[float, float], passes: bool
) -> None:
    def figure(ends: tuple[float, float]) -> dict[str, Figure]:
        return {"a.b": Figure(name="b", value=sum(ends) / 2, low=ends[0], high=ends[1])}

    comparison = Comparison.model_validate({"figure": "a.b", "better": better})
    (verdict,) = compare([comparison], figure(ours), figure(theirs))
    assert verdict.passes is passes


def test_a_champion_that_was_never_measured_so_holds_nobody_back() -> None:
    assert compare([Comparison(figure="loss.xz", better="lower")], FIGURES, {}) == []
