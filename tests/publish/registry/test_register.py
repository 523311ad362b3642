from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.action import Workspace
from components.core.errors import DataError, GateFailed
from components.core.settings import Settings
from components.core.stats.report_items import ReportItems
from components.core.store.artifact import Bundle
from components.publish.registry import register as registering
from components.publish.registry.mlflow_client import (
    MlflowTracker,
    connect_mlflow,
    ensure_experiment,
    flatten_mapping,
)
from components.publish.registry.mlflow_tables import artifact_root
from components.publish.registry.model_registry import list_versions
from components.publish.registry.register import RegisterConfig, register
from components.publish.registry.version_figures import read_stored_figures, read_stored_reports
from tests.memory_tracker import MemoryTracker
from tests.publish.conftest import Bench, list_aliases


def given(bench: Any, content: str) -> dict[str, Any]:
    return {
        "bundle": bench.bundle(content),
        "model": bench.model(),
        "dataset": bench.dataset(),
        "reports": {"choice": bench.report("accuracy", 0.6, 0.5, 0.7)},
    }


def test_a_version_holds_figures_intervals_shape_curve_dataset_and_files(bench: Any) -> None:
    inputs = given(bench, "graph")
    change = register(RegisterConfig(name="whole"), **inputs, workspace=bench.workspace)

    assert change.changed
    assert change.artifact.name == "models:/whole/1"
    client = connect_mlflow(bench.settings)
    version = client.get_model_version_by_alias("whole", "challenger")
    run = client.get_run(version.run_id)
    metrics = run.data.metrics
    assert metrics["choice.accuracy"] == 0.6
    assert (metrics["choice.accuracy.low"], metrics["choice.accuracy.high"]) == (0.5, 0.7)
    assert metrics["parity.onnx.top1_agreement"] == 1.0
    assert run.data.params["shape.width"] == "16"
    curve = client.get_metric_history(version.run_id, "curve.loss")
    assert len(curve) <= 500
    assert max(point.step for point in curve) == 1199
    logged = run.inputs.dataset_inputs[0].dataset
    assert logged.digest == inputs["dataset"].digest[:36]
    (entry,) = list_versions(bench.settings, "whole")
    files = {
        p.relative_to(entry.files_folder(bench.settings)).as_posix()
        for p in entry.files_folder(bench.settings).rglob("*")
        if p.is_file()
    }
    assert files == {
        "onnx/model.onnx",
        "bundle.json",
        "tokenizer.json",
        "reports/choice/report.json",
    }
    assert read_stored_reports(bench.settings, entry)["choice.accuracy"].low == 0.5


def test_the_same_bundle_makes_no_second_version_and_needs_no_mlflow(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = given(bench, "once")
    first = register(RegisterConfig(name="once"), **inputs, workspace=bench.workspace)

    def refuse(settings: object) -> None:
        raise AssertionError("connected although there was nothing to do")

    monkeypatch.setattr(registering, "connect_mlflow", refuse)
    again = register(RegisterConfig(name="once"), **inputs, workspace=bench.workspace)
    assert not again.changed
    assert again.artifact == first.artifact
    assert len(list_versions(bench.settings, "once")) == 1


def test_a_report_that_came_out_differently_replaces_the_stored_one(bench: Any) -> None:
    inputs = given(bench, "renewed")
    register(RegisterConfig(name="renewed"), **inputs, workspace=bench.workspace)
    items = ReportItems(["a", "b"], ["p", "q"], np.ones(2), {"accuracy": np.array([1.0, 0.0])})
    inputs["reports"] = {
        "choice": bench.report("accuracy", 0.5, 0.4, 0.6, items),
        "loss": bench.report("bits", 1.5, 1.4, 1.6),
    }
    change = register(RegisterConfig(name="renewed"), **inputs, workspace=bench.workspace)
    assert (change.changed, change.note) == (True, "version 1, new reports: choice, loss")
    (entry,) = list_versions(bench.settings, "renewed")
    found = read_stored_figures(bench.settings, entry)
    assert found.figures["choice.accuracy"].value == 0.5
    assert found.figures["loss.bits"].value == 1.5
    assert list(found.items) == ["choice"]
    assert list(found.items["choice"].keys) == ["a", "b"]
    again = register(RegisterConfig(name="renewed"), **inputs, workspace=bench.workspace)
    assert not again.changed


def test_reading_the_tables_agrees_with_mlflow(bench: Any) -> None:
    for content in ("first", "second"):
        register(RegisterConfig(name="read"), **given(bench, content), workspace=bench.workspace)
    client = connect_mlflow(bench.settings)
    theirs = {int(v.version): dict(v.tags) for v in client.search_model_versions("name='read'")}
    ours = {e.version: dict(e.tags) for e in list_versions(bench.settings, "read")}
    assert ours == theirs
    named = client.get_registered_model("read").aliases
    assert {k: int(v) for k, v in named.items()} == {"challenger": 2}
    assert list_aliases(bench.settings, "read") == {"challenger": "2"}

    client.delete_model_version("read", "2")
    assert [e.version for e in list_versions(bench.settings, "read")] == [1]


@pytest.mark.parametrize("dies_in", ["_log_files", "_version_tags"])
def test_a_killed_try_leaves_nothing_after_the_next_one(
    bench: Any, monkeypatch: pytest.MonkeyPatch, dies_in: str
) -> None:
    name = f"killed-{dies_in.strip('_')}"
    inputs = given(bench, name)

    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(registering, dies_in, die)
        with pytest.raises(Killed):
            register(RegisterConfig(name=name), **inputs, workspace=bench.workspace)
    assert list_versions(bench.settings, name) == []

    assert register(RegisterConfig(name=name), **inputs, workspace=bench.workspace).changed
    client = connect_mlflow(bench.settings)
    place = client.get_experiment_by_name(name).experiment_id
    assert len(client.search_runs([place])) == 1
    assert len(client.search_logged_models([place])) == 1
    assert len(list_versions(bench.settings, name)) == 1


def test_a_version_that_lost_its_alias_to_a_kill_gets_it_at_the_next_call(bench: Any) -> None:
    inputs = given(bench, "alias")
    register(RegisterConfig(name="alias"), **inputs, workspace=bench.workspace)
    client = connect_mlflow(bench.settings)
    client.delete_registered_model_alias("alias", "challenger")
    client.delete_model_version_tag("alias", "1", registering.REGISTERED_TAG)

    assert register(RegisterConfig(name="alias"), **inputs, workspace=bench.workspace).changed
    assert list_aliases(bench.settings, "alias") == {"challenger": "1"}


def test_a_form_that_failed_parity_is_not_registered(bench: Any) -> None:
    inputs = given(bench, "x") | {"bundle": bench.bundle("bad", {"passes": False})}
    with pytest.raises(GateFailed, match="onnx differs from the torch model"):
        register(RegisterConfig(name="parity"), **inputs, workspace=bench.workspace)
    assert list_versions(bench.settings, "parity") == []


def test_a_form_left_out_of_the_bundle_stays_out_and_a_volatile_engine_comes_along(
    bench: Any,
) -> None:
    work = bench._work("components.export.bundle.bundle")
    for place in ("hf", "tensorrt", "volatile/tensorrt"):
        (work.folder / place).mkdir(parents=True)
        (work.folder / place / "file").write_text(place)
    (work.folder / "volatile/tensorrt/model.engine").write_bytes(b"built here")
    forms = {"hf": {"passes": True}, "tensorrt": {"passes": True}, "onnx": {"passes": False}}
    (work.folder / "bundle.json").write_text(json.dumps({"forms": forms}))
    inputs = given(bench, "x") | {"bundle": work.seal(Bundle)}
    register(RegisterConfig(name="forms"), **inputs, workspace=bench.workspace)
    (entry,) = list_versions(bench.settings, "forms")
    assert entry.tags["modelmill.forms"] == "hf, tensorrt"
    files = entry.files_folder(bench.settings)
    assert (files / "tensorrt" / "model.engine").read_bytes() == b"built here"
    assert not (files / "onnx").exists()


def test_a_bundle_without_its_facts_is_one_line(bench: Any) -> None:
    inputs = given(bench, "x") | {"bundle": bench.report("accuracy", 1, 1, 1)}
    with pytest.raises(DataError, match=r"bundle.json cannot be read"):
        register(RegisterConfig(name="none"), **inputs, workspace=bench.workspace)


def test_the_database_lies_whole_in_the_workspace(bench: Any) -> None:
    connect_mlflow(bench.settings)
    names = {path.name for path in bench.settings.mlflow.iterdir()}
    assert "mlflow.db" in names
    assert not [name for name in names if "partial" in name]
    assert artifact_root(bench.settings).startswith(f"file://{bench.settings.home}")


def test_a_tracker_batches_what_it_is_told(bench: Any) -> None:
    client = connect_mlflow(bench.settings)
    run = client.create_run(ensure_experiment(client, bench.settings, "tracked"))
    told = MemoryTracker()
    real = MlflowTracker(client, run.info.run_id)
    for tracker in (told, real):
        for step in range(2300):
            tracker.log_metric("loss", step / 2, step)
        tracker.log_parameter("width", 16)
        tracker.flush()
    points = [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, "loss")]
    assert sorted(points) == told.metrics["loss"]
    assert client.get_run(run.info.run_id).data.params == told.parameters


def test_flatten_names_every_leaf() -> None:
    nested = {"optim": {"lr": 0.1, "betas": [1, 2]}, "steps": 3}
    assert flatten_mapping("sft", nested) == {
        "sft.optim.lr": 0.1,
        "sft.optim.betas": [1, 2],
        "sft.steps": 3,
    }


def test_a_copied_workspace_writes_into_itself(bench: Any, tmp_path: Path) -> None:
    """MLflow's addresses are absolute; a copy must not write into what it was copied from."""
    inputs = (bench.bundle("moved"), bench.model(), bench.dataset(), {})
    register(RegisterConfig(name="moved"), *inputs, bench.workspace)
    shutil.copytree(bench.settings.home, tmp_path / "copy")
    before = sorted(bench.settings.mlflow.rglob("*"))
    copy = Workspace(Settings(home=tmp_path / "copy", reference_data=tmp_path))
    other = Bench(tmp_path / "copy").bundle("moved again")
    register(RegisterConfig(name="moved"), other, *inputs[1:], copy)
    newest = list_versions(copy.settings, "moved")[0]
    assert newest.version == 2
    assert (newest.files_folder(copy.settings) / "bundle.json").is_file()
    assert sorted(bench.settings.mlflow.rglob("*")) == before
