"""What MLflow holds of trainings: figures, and texts of the model, which may quote a page.

So a training's record stays as long as the stage it tells of lies in the store, and goes with it.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

from components.core.errors import MillError
from components.core.settings import Settings
from components.core.store.store import stage_folders
from components.core.tracking import STAGE_TAG, connect

_PATIENCE_SECONDS = 20.0
_RECORDED = "SELECT run_uuid, value FROM tags WHERE key = ?1 ORDER BY run_uuid"


def without_stage(settings: Settings, removed: Collection[Path] = ()) -> list[str]:
    """Runs of trainings whose stage is neither sealed nor begun any more.

    Args:
        removed: folders of stages that are as good as gone.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    path = settings.mlflow / "mlflow.db"
    if not path.exists():
        return []
    staying = {folder.name for folder in stage_folders(settings.store) if folder not in removed}
    try:
        address = f"{path.as_uri()}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=_PATIENCE_SECONDS)) as database:
            found = database.execute(_RECORDED, (STAGE_TAG,)).fetchall()
    except sqlite3.Error as error:
        raise MillError(f"{path}: cannot be read: {error}") from error
    return [run for run, key in found if key not in staying]


def files_of(settings: Settings, run: str) -> Path:
    """Where a run's texts lie."""
    return settings.mlflow / "artifacts" / run


def withdraw_trainings(settings: Settings) -> int:
    """Delete the records of trainings whose stage is gone, with their texts; returns how many."""
    runs = without_stage(settings)
    if not runs:
        return 0
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    connect(settings)
    rows = SqlAlchemyStore(  # type: ignore[no-untyped-call]
        settings.mlflow_uri, (settings.mlflow / "artifacts").as_uri()
    )
    for run in runs:
        shutil.rmtree(files_of(settings, run), ignore_errors=True)
        rows._hard_delete_run(run)  # type: ignore[no-untyped-call]
    rows.engine.dispose()
    return len(runs)
