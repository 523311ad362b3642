from __future__ import annotations

import pytest

from components.core.errors import ConfigError, GateFailed
from components.core.stats.figures import Figure, exact_figure
from components.publish.promotion.gates import (
    Direction,
    End,
    Gate,
    dump_verdicts,
    judge_gates,
    require_passed,
)

FIGURES = {
    "loss.bits_per_byte": Figure(name="bits_per_byte", value=1.2, low=1.1, high=1.3),
    "loss.xz": exact_figure("xz", 1.4),
    "compare.win_rate": exact_figure("win_rate", 0.0),
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
    (verdict,) = judge_gates([gate], FIGURES)
    assert verdict.passes is passes


def test_an_interval_that_touches_zero_is_not_above_it() -> None:
    gate = Gate(name="g", figure="compare.win_rate", direction="above", bound=0, on="low")
    assert not judge_gates([gate], FIGURES)[0].passes


def test_a_refusal_names_gate_figure_and_bound() -> None:
    gates = [
        Gate(name="floor", figure="loss.bits_per_byte", direction="below", bound=1.0, on="high"),
        Gate(name="xz", figure="loss.bits_per_byte", direction="above", bound="loss.xz"),
    ]
    with pytest.raises(GateFailed) as refused:
        require_passed(judge_gates(gates, FIGURES))
    assert str(refused.value) == (
        "gate floor: high end of loss.bits_per_byte is 1.3, must be below 1 "
        "(2 gates refused in all): not promoted"
    )


def test_a_gate_on_a_figure_nobody_measured_names_those_there_are() -> None:
    gate = Gate(name="g", figure="loss.nats", direction="below", bound=1)
    with pytest.raises(
        ConfigError, match=r"loss.nats was not measured; figures: loss.bits_per_byte, loss.xz$"
    ):
        judge_gates([gate], FIGURES)


def test_a_report_nobody_made_is_one_line_too() -> None:
    gate = Gate(name="g", figure="safty.leaking", direction="below", bound=1)
    with pytest.raises(ConfigError, match=r"no report 'safty'; reports: compare, loss$"):
        judge_gates([gate], FIGURES)
    gate = Gate(name="g", figure="loss.xz", direction="below", bound="loss.zip")
    with pytest.raises(ConfigError, match=r"gate g: loss.zip was not measured"):
        judge_gates([gate], FIGURES)


def test_a_star_makes_a_verdict_for_each_figure_that_fits() -> None:
    figures = {
        "parity.hf.kl_mean": exact_figure("kl_mean", 1e-9),
        "parity.onnx.kl_mean": exact_figure("kl_mean", 0.5),
        "parity.forms": exact_figure("forms", 2),
    }
    gate = Gate(name="parity", figure="parity.*.kl_mean", direction="at most", bound=0.01)
    assert [(v.figure, v.passes) for v in judge_gates([gate], figures)] == [
        ("parity.hf.kl_mean", True),
        ("parity.onnx.kl_mean", False),
    ]
    gate = gate.model_copy(update={"figure": "parity.*.top1"})
    with pytest.raises(ConfigError, match=r"parity.\*.top1 was not measured"):
        judge_gates([gate], figures)


def test_a_record_is_enough_to_judge_again() -> None:
    gate = Gate(name="g", figure="loss.bits_per_byte", direction="below", bound="loss.xz")
    (kept,) = dump_verdicts(judge_gates([gate], FIGURES))
    assert kept == {
        "gate": "g",
        "figure": "loss.bits_per_byte",
        "value": 1.2,
        "low": 1.1,
        "high": 1.3,
        "n": 1,
        "on": "value",
        "found": 1.2,
        "direction": "below",
        "bound": 1.4,
        "bound_is": "loss.xz",
        "rule": "",
        "pairs": None,
        "pages": None,
        "passes": True,
    }
