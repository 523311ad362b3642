"""MLflow records of trainings: written while a stage trains, deleted when the stage is gone.

They hold figures, and texts of the model, which may quote a page. So a training's record stays as
long as the stage it tells of lies in the store, and goes with it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from pathlib import Path

from components.core.errors import error_line
from components.core.log import get_logger
from components.core.settings import Settings
from components.core.store.store import stage_folders
from components.core.tracking import NoTracker, Tracker
from components.publish.registry.mlflow_client import (
    MlflowTracker,
    connect_mlflow,
    ensure_experiment,
)
from components.publish.registry.mlflow_tables import (
    DatabaseError,
    artifacts_folder,
    select_tagged_runs,
)

TRAININGS = "modelmill-trainings"
"""The experiment of all trainings; a registered model's own has its versions."""
STAGE_TAG = "modelmill.stage_key"
log = get_logger(__name__)


def root_cause_line(error: BaseException) -> str:
    """Message of the database's or system's error at the root of a library's exception, in a line.

    MLflow wraps SQLite's five words into SQLAlchemy's statement with all its parameters.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, DatabaseError | OSError):
        link = link.__cause__ or link.__context__
    return error_line(link or error)


class FaultTolerantTracker:
    """A tracker whose failures end the record and not what is recorded."""

    def __init__(self, open_: Callable[[], Tracker]) -> None:
        self._tracker: Tracker = NoTracker()
        self._try(lambda: setattr(self, "_tracker", open_()))

    def log_parameter(self, name: str, value: object) -> None:
        self._try(lambda: self._tracker.log_parameter(name, value))

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Note one value, unless the record has ended.

        Args:
            name: name of the metric.
            value: finite value of the series at this step.
            step: step of the training.
        """
        self._try(lambda: self._tracker.log_metric(name, value, step))

    def log_text(self, name: str, content: str) -> None:
        self._try(lambda: self._tracker.log_text(name, content))

    def flush(self) -> None:
        self._try(lambda: self._tracker.flush())

    def close(self, *, failed: bool) -> None:
        # Of a training that failed, what it failed of is told and not what that did to its record.
        self._try(lambda: self._tracker.close(failed=failed), logging.DEBUG if failed else None)

    def _try(self, call: Callable[[], None], level: int | None = None) -> None:
        try:
            call()
        except Exception as error:  # whatever a database or a full disk says
            what = "the training is no longer recorded in MLflow: %s"
            log.log(level or logging.WARNING, what, root_cause_line(error))
            self._tracker = NoTracker()


def open_training_tracker(settings: Settings, stage: str, key: str) -> Tracker:
    """The tracker of a training; a later try of the same stage goes on in the same run.

    Args:
        settings: workspace whose MLflow database takes the figures.
        stage: name of the stage in its run.
        key: key of the stage in the store.
    """

    def opened() -> Tracker:
        client = connect_mlflow(settings)
        place = ensure_experiment(client, settings, TRAININGS)
        runs = client.search_runs([place], filter_string=f"tags.`{STAGE_TAG}` = '{key}'")
        if runs:
            run_id = runs[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {STAGE_TAG: key}
            run_id = client.create_run(place, tags=tags, run_name=f"{stage}-{key[:12]}").info.run_id
        return MlflowTracker(client, run_id)

    return FaultTolerantTracker(opened)


def find_orphaned_runs(settings: Settings, removed: Collection[Path] = ()) -> list[str]:
    """Runs of trainings whose stage is neither sealed nor begun any more.

    Args:
        settings: names the store and the database.
        removed: folders of stages that are as good as gone.

    Raises:
        MillError: the database is not one that this MLflow writes.
    """
    recorded = select_tagged_runs(settings, STAGE_TAG)
    if not recorded:
        return []
    staying = {folder.name for folder in stage_folders(settings.store) if folder not in removed}
    return [run for run, key in recorded if key not in staying]


def run_folder(settings: Settings, run: str) -> Path:
    """Folder of a run's texts."""
    return artifacts_folder(settings) / run
