"""Gates in a run's config, and how their record is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.publish.promotion.gates import Gate
from flows.configs.presets import PRESETS, nano_run
from flows.configs.target_config import read_target
from flows.runner.progress_display import gates_table
from tests.flows.conftest import CommandLine

Ran = tuple[CommandLine, dict[str, Any]]


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_presets_guard_everything(name: str) -> None:
    promote = PRESETS[name]().promote
    assert {gate.name for gate in promote.gates} == {
        *("dataset", "quality", "task", "alignment", "safety", "parity", "latency")
    }
    assert len(promote.compare) == 3


@pytest.mark.parametrize(
    ("figure", "bound", "refusal"),
    [
        (
            "safty.leaking",
            "0.1",
            r"own.yaml:4: promote.gates.0.figure: given 'safty.leaking': there is no report "
            "'safty'; write REPORT.FIGURE, reports: check, loss, .*, smoke",
        ),
        (
            "safety.leeking",
            "0.1",
            r"own.yaml:4: promote.gates.0.figure: given 'safety.leeking': the report safety has "
            "no such figure; its figures: leaking, copying, degenerate, longest_copy",
        ),
        ("safety.leaking", "los.bits", r"promote.gates.0.bound: .*there is no report 'los'"),
        ("safety.leaking", "loss.*", r"promote.gates.0.bound: .*the report loss has no such"),
        (
            "parity.onnx*.kl",
            "0.1",
            r"the report parity has no such figure; its figures: \*.kl_mean",
        ),
        ("compare.difference_kind", "0.1", r"has no such figure; .*difference_faithful"),
        ("check.column_median_to_be_between.words", "0.1", r"the report check has no such figure"),
    ],
)
def test_a_gate_on_a_figure_that_no_report_declares_is_refused(
    figure: str, bound: str, refusal: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=refusal):
        read_gate(tmp_path, f"figure: {figure}, bound: {bound}")


@pytest.mark.parametrize(
    "figure",
    [
        "safety.leaking",
        "safety.*",
        "parity.*.kl_mean",
        "parity.onnx*.kl_*",
        "parity.onnx-int8.top1_agreement",
        "compare.difference_faithful",
        "check.table_row_count_to_be_between.table",
    ],
)
def test_a_gate_on_a_declared_figure_is_read(figure: str, tmp_path: Path) -> None:
    gate = read_gate(tmp_path, f'figure: "{figure}", bound: 0.1')
    assert (gate.figure, gate.bound, gate.on) == (figure, 0.1, "value")


def test_a_comparison_names_one_declared_figure() -> None:
    with pytest.raises(ConfigError, match=r"promote.compare.0.figure: given 'loss.\*': the report"):
        overlay_config(
            nano_run(), {"promote": {"compare": [{"figure": "loss.*", "better": "lower"}]}}
        )


def test_a_number_in_any_notation_is_a_bound(tmp_path: Path) -> None:
    gate = read_gate(tmp_path, "figure: safety.leaking, bound: 1e-1, on: low")
    assert (gate.on, gate.bound) == ("low", 0.1)


def read_gate(folder: Path, fields: str) -> Gate:
    """The gate of a run file that holds one gate with these fields."""
    own = folder / "own.yaml"
    own.write_text(
        f"preset: nano\npromote:\n  gates:\n    - {{name: g, direction: below, {fields}}}\n"
    )
    (gate,) = read_target(str(own), [], Settings(home=folder, reference_data=folder)).promote.gates
    return gate


def shown(gate: dict[str, Any]) -> str:
    told = {"gate": "g", "on": "value", "direction": "at most", "bound_is": "", "passes": True}
    console = Console(file=io.StringIO(), width=140)
    console.print(gates_table([{**told, **gate}]))
    assert isinstance(console.file, io.StringIO)
    line = console.file.getvalue().splitlines()[3]
    return " ".join(line.replace("│", " ").split())


def test_a_gate_is_a_line_with_interval_bound_end_and_pairs() -> None:
    ends = {"value": 0.5, "low": 0.4, "high": 0.6}
    floor = {"figure": "a.b", "found": 0.6, "bound": 0.7, "on": "high", **ends}
    assert shown(floor) == "✓ g a.b 0.5 (0.4 to 0.6) high end at most 0.7"
    rival = {
        **floor,
        "gate": "no worse than the champion in a.b",
        "passes": False,
        "pairs": 60,
        "pages": 12,
        "rule": "paired: challenger minus champion over 60 items of 12 pages",
    }
    assert shown(rival) == (
        "✗ no worse than the champion a.b difference 0.5 (0.4 to 0.6); paired: 60 items, 12 pages "
        "shared high end at most 0.7"
    )
    unmet = {"figure": "a.b", "found": 1.0, "bound": None, "bound_is": "never measured"}
    assert shown({**unmet, "rule": "not compared"}) == "✓ g a.b 1 never measured"
    assert shown({"figure": "a.[red]", "found": 1.0, "bound": 2.0}) == "✓ g a.[red] 1 at most 2"


def test_nano_passes_its_gates_after_its_bento_answered(nano: Ran) -> None:
    modelmill, answer = nano
    order = [step["stage"] for step in answer["steps"]]
    assert order[-5:] == ["registry", "package", "smoke", "promote", "dossier"]
    (version,) = (v for v in modelmill.answer("models")["models"] if v["version"] == "1")
    assert version["state"] == "passed"
    gates = version["gates"]
    assert {gate["gate"] for gate in gates} == {"dataset", "parity", "latency", "safety"}
    assert all(gate["passes"] for gate in gates)
    assert {g["figure"].split(".")[1] for g in gates if g["gate"] == "parity"} == {
        *("hf", "onnx", "onnx-int8", "tensorrt")
    }
    table = modelmill("models").stdout
    assert "safety.leaking" in table
    assert "smoke.time_to_first_token" in table
