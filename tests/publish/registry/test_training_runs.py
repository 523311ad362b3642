"""The record of a training goes with its stage, and with nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.registry import registry_gc
from components.publish.registry.delete_versions import RegistryDeletion, plan_registry_purge
from components.publish.registry.mlflow_client import connect_mlflow
from components.publish.registry.training_runs import (
    TRAININGS,
    find_orphaned_runs,
    open_training_tracker,
    run_folder,
)
from flows.operations.retention.purge import Purge, begin_purge, carry_out_purge


def recorded(settings: Settings, key: str, place: str) -> str:
    """A training that left a figure and a text; the id of its run."""
    folder = settings.store / place / key
    folder.mkdir(parents=True)
    tracker = open_training_tracker(settings, "pretrain", key)
    tracker.log_metric("loss", 1.0, 0)
    tracker.log_text("samples/step-1.txt", f"quoted of {key}")
    tracker.close(failed=False)
    client = connect_mlflow(settings)
    experiment = client.get_experiment_by_name(TRAININGS)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (run,) = (run for run in runs if run.data.tags["modelmill.stage_key"] == key)
    return str(run.info.run_id)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    return Settings(home=home, reference_data=home)


def test_records_go_with_their_stages(settings: Settings) -> None:
    assert find_orphaned_runs(settings) == []
    assert not (settings.mlflow / "mlflow.db").exists()
    runs = {
        key: recorded(settings, key, place)
        for key, place in (("a" * 64, "sealed"), ("b" * 64, "sealed"), ("c" * 64, "partial"))
    }
    assert find_orphaned_runs(settings) == []
    folder = settings.store / "sealed" / ("a" * 64)
    assert find_orphaned_runs(settings, {folder}) == [runs["a" * 64]]
    plan = GcPlan("store", settings.store)
    plan.add_deletion("a", "to be forgotten", [folder])
    purge = Purge(["a.example"], [plan_registry_purge(settings, [], [folder]), plan])
    begin_purge(settings, purge)
    carry_out_purge(settings, purge)
    client = connect_mlflow(settings)
    experiment = client.get_experiment_by_name(TRAININGS)
    assert experiment is not None
    left = {run.info.run_id for run in client.search_runs([experiment.experiment_id])}
    assert left == {runs["b" * 64], runs["c" * 64]}
    assert not run_folder(settings, runs["a" * 64]).exists()
    assert (
        "quoted"
        in (run_folder(settings, runs["b" * 64]) / "artifacts/samples/step-1.txt").read_text()
    )


def test_a_collection_takes_them_with_their_stages(settings: Settings) -> None:
    goes, stays = "a" * 64, "b" * 64
    runs = {key: recorded(settings, key, "sealed") for key in (goes, stays)}
    client = connect_mlflow(settings)
    client.delete_run(runs[goes])  # by hand: named once all the same
    removed = {settings.store / "sealed" / goes}
    sweep = registry_gc.plan_registry_gc(
        settings, [], RetentionPolicy(days=0), time.time() + 60, removed
    )
    assert [(item.name, item.kind) for item in sweep.deletions] == [(runs[goes], "run")]
    RegistryDeletion().delete(settings, sweep)
    assert not run_folder(settings, runs[goes]).exists()
    assert run_folder(settings, runs[stays]).exists()
    with pytest.raises(MlflowException, match="not found"):
        client.get_run(runs[goes])
