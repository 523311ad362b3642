"""Gates in a run's config, and how their record is shown."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.configs.presets import PRESETS
from flows.runner.progress_display import gates_table
from flows.runner.run_pipeline import read_target
from tests.flows.conftest import Mill

Ran = tuple[Mill, dict[str, Any]]


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_presets_guard_everything(name: str) -> None:
    promote = PRESETS[name]().promote
    assert {gate.name for gate in promote.gates} == {
        *("dataset", "quality", "task", "alignment", "safety", "parity", "latency")
    }
    assert len(promote.compare) == 3


def test_a_gate_on_no_report_is_refused_before_anything_runs(tmp_path: Path) -> None:
    here = Settings(home=tmp_path, reference_data=tmp_path)
    own = tmp_path / "own.yaml"
    own.write_text(
        "preset: nano\n"
        "promote:\n"
        "  gates:\n"
        "    - {name: safe, figure: safty.leaking, direction: below, bound: 0.1}\n"
    )
    with pytest.raises(
        ConfigError, match=r"own.yaml:2: promote: .*'safty.leaking' is of no report"
    ):
        read_target(str(own), [], here)
    own.write_text(own.read_text().replace("safty", "safety").replace("0.1", "los.bits"))
    with pytest.raises(ConfigError, match=r"figure 'los.bits' is of no report"):
        read_target(str(own), [], here)
    own.write_text(own.read_text().replace("los.bits", "0.1"))
    (gate,) = read_target(str(own), [], here).promote.gates
    assert (gate.figure, gate.bound) == ("safety.leaking", 0.1)
    own.write_text(own.read_text().replace("bound: 0.1", "bound: 1e-1, on: low"))
    (gate,) = read_target(str(own), [], here).promote.gates
    assert (gate.on, gate.bound) == ("low", 0.1)


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
    mill, answer = nano
    order = [step["stage"] for step in answer["steps"]]
    assert order[-5:] == ["register", "package", "smoke", "promote", "dossier"]
    (version,) = (v for v in mill.answer("models")["models"] if v["version"] == "1")
    assert version["state"] == "passed"
    gates = version["gates"]
    assert {gate["gate"] for gate in gates} == {"dataset", "parity", "latency", "safety"}
    assert all(gate["passes"] for gate in gates)
    assert {g["figure"].split(".")[1] for g in gates if g["gate"] == "parity"} == {
        *("hf", "onnx", "onnx-int8", "tensorrt")
    }
    table = mill("models").stdout
    assert "safety.leaking" in table
    assert "smoke.time_to_first_token" in table
