"""MLflow's addresses in workspaces that lie in odd places, or were moved."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from components.core.settings import Settings
from components.publish.registry.mlflow_client import connect_mlflow, ensure_experiment
from components.publish.registry.mlflow_tables import artifact_root


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one run that has an artifact; its migrations take seconds."""
    home = tmp_path_factory.mktemp("addresses") / "first"
    _log(Settings(home=home, reference_data=home))
    return home


def _log(settings: Settings) -> None:
    client = connect_mlflow(settings)
    run = client.create_run(ensure_experiment(client, settings, "one"))
    client.log_text(run.info.run_id, "here", "folder/said.txt")


def _addresses(settings: Settings) -> set[str]:
    with closing(sqlite3.connect(settings.mlflow / "mlflow.db")) as database:
        runs = database.execute("SELECT artifact_uri FROM runs").fetchall()
        places = database.execute("SELECT artifact_location FROM experiments").fetchall()
    return {address for (address,) in runs + places}


PLACES = (
    "a b",
    "é",
    "a#b",
    "a%41b",
    "[x] & (y)",
    "mlflow/artifacts/w",
    "mlflow/artifacts/mlflow/artifacts",
    "mlflow/artifacts",
)


@pytest.mark.parametrize("place", PLACES)
def test_a_workspace_may_lie_anywhere(first: Path, tmp_path: Path, place: str) -> None:
    settings = Settings(home=tmp_path / place, reference_data=tmp_path)
    shutil.copytree(first, settings.home)
    for _ in range(3):
        _log(settings)
    root = artifact_root(settings)
    assert all(a == root or a.startswith(f"{root}/") for a in _addresses(settings))
    held = sorted(settings.mlflow.glob("artifacts/*/artifacts/folder/said.txt"))
    assert len(held) == 1 + 3
    client = connect_mlflow(settings)
    for path in held:
        run = path.parents[2].name
        assert Path(client.download_artifacts(run, "folder/said.txt")).read_text() == "here"


def test_a_workspace_moves_into_its_own_artifacts_and_out_again(
    first: Path, tmp_path: Path
) -> None:
    outer, inner = "outer", "outer/mlflow/artifacts/w"
    shutil.copytree(first / "mlflow", tmp_path / "now" / "mlflow")
    for place in (outer, inner, outer, "other"):
        settings = Settings(home=tmp_path / place, reference_data=tmp_path)
        shutil.move(tmp_path / "now" / "mlflow", tmp_path / "carried")
        shutil.rmtree(settings.home, ignore_errors=True)
        shutil.copytree(tmp_path / "carried", settings.mlflow)
        connect_mlflow(settings)
        root = artifact_root(settings)
        assert all(a == root or a.startswith(f"{root}/") for a in _addresses(settings)), place
        runs = {path.name for path in settings.mlflow.glob("artifacts/*/")} - {"w"}
        assert {a.removeprefix(f"{root}/").split("/")[0] for a in _addresses(settings)} >= runs
        (tmp_path / "now").mkdir(exist_ok=True)
        shutil.rmtree(tmp_path / "carried")
        shutil.copytree(settings.mlflow, tmp_path / "now" / "mlflow")
