"""What a run shows: tables from real files, and the summary."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.settings import Settings
from components.core.stats.figures import Figure, write_report
from components.core.store.artifact import (
    Artifact,
    Bento,
    Checkpoint,
    Corpus,
    Lineage,
    ModelVersion,
)
from flows.runner.run_tables import (
    CURVE_ROWS,
    curve_rows,
    figure_rows,
    funnel_rows,
    gate_rows,
    parity_rows,
    run_summary,
    table_of_step,
)
from flows.runner.runner import StepResult

LINEAGE = Lineage(component="c", code="", config="")


def result(
    name: str, kind: type[Artifact] = Corpus, note: str = "", where: str = "x", **stats: float
) -> StepResult:
    artifact = kind(name=where, digest="d" * 64, lineage=LINEAGE, stats=stats)
    return StepResult(name, "Completed", 1.5, artifact, note)


def test_the_funnel_names_every_rule_the_worst_first() -> None:
    earlier = {
        "scrape": result("scrape", pages=50),
        "extract": result("extract", documents=44, quarantined=6),
    }
    dropped = {"dropped_by_quality.words": 2, "dropped_by_duplicates.near": 5}
    rows = funnel_rows(result("select", kept=38, dropped=6, **dropped), earlier)
    assert [(row["what"], row["documents"]) for row in rows] == [
        ("pages fetched", 50),
        ("pages without a text", 6),
        ("documents extracted", 44),
        ("dropped by duplicates.near", 5),
        ("dropped by quality.words", 2),
        ("dropped in all", 6),
        ("kept", 38),
    ]


@pytest.mark.parametrize("steps", [1, 2, CURVE_ROWS, 1000])
def test_a_curve_keeps_its_first_and_last_step(tmp_path: Path, steps: int) -> None:
    table = pa.table({"step": range(steps), "loss": [5 / (n + 1) for n in range(steps)]})
    pq.write_table(table, tmp_path / "curve.parquet")
    rows = curve_rows(tmp_path)
    assert (rows[0]["step"], rows[-1]["step"]) == (0, steps - 1)
    assert len(rows) == min(steps, CURVE_ROWS)


def test_figures_come_with_their_intervals(tmp_path: Path) -> None:
    write_report(tmp_path, [Figure(name="bits_per_byte", value=1.42712, low=1.3, high=1.5, n=57)])
    wanted = {"figure": "bits per byte", "value": 1.427, "low": 1.3, "high": 1.5, "n": 57}
    assert figure_rows(tmp_path) == [{**wanted, "unit": ""}]


def test_a_report_without_figures_shows_nothing(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    (settings.store / "x").mkdir(parents=True)
    (settings.store / "x" / "report.json").write_text('{"expectations": []}')
    assert table_of_step(settings, result("check"), {}) is None


def test_keys_are_such_as_prefect_takes(tmp_path: Path) -> None:
    from prefect.client.schemas.actions import ArtifactCreate

    settings = Settings(home=tmp_path, reference_data=tmp_path)
    (settings.store / "x").mkdir(parents=True)
    pq.write_table(pa.table({"step": [0], "loss": [1.0]}), settings.store / "x" / "curve.parquet")
    shown = table_of_step(settings, result("keep_best", kind=Checkpoint), {})
    assert shown is not None
    assert ArtifactCreate(key=shown.key, type="table").key == "curve-keep-best"


def test_parity_lists_forms_that_were_left_out(tmp_path: Path) -> None:
    held = {"passes": True, "kl_mean": 1e-9, "top1_agreement": 1.0, "positions": 512}
    content = {"forms": {"onnx": held}, "left_out": {"tensorrt": "KL 3 above 1e-05"}}
    (tmp_path / "bundle.json").write_text(json.dumps(content))
    rows = parity_rows(tmp_path)
    assert [(row["form"], row["passes"]) for row in rows] == [("onnx", "yes"), ("tensorrt", "no")]


def test_gates_say_what_was_found_and_what_must_be() -> None:
    verdict = {
        "gate": "task",
        "figure": "choice.accuracy",
        "on": "low",
        "found": 0.17132,
        "direction": "above",
        "bound": 0.25,
        "bound_is": "",
        "passes": False,
    }
    (row,) = gate_rows([verdict])
    assert (row["found"], row["must be"], row["passes"]) == (0.1713, "above 0.25", "no")


def test_the_summary_says_where_things_lie(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    results = [
        result("change", note="3 % of documents changed since version 2"),
        result("registry", ModelVersion, where="models:/tiny/3"),
        result("package", Bento, "modelmill:abc", "../bentos/abc"),
        result("pretrain", Checkpoint, "a | b"),
    ]
    text = run_summary("tiny-v3", settings, "tiny-1", results, "Completed.")
    assert text.startswith("# tiny-v3\n\nCompleted.\n")
    assert "`models:/tiny/3`" in text
    assert "modelmill:abc" in text
    assert "change of the corpus: 3 %" in text
    assert "| pretrain | Completed | 1.50 s | a \\| b |" in text
