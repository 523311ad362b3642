"""Where runs are recorded: the workspace's MLflow database, and the in-memory twin of a tracker.

MLflow is imported inside the functions here (1.5 s) and in ``components/publish`` alone.
"""

from __future__ import annotations

import logging
import os
import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from components.core.io.atomic_write import atomic_path
from components.core.log import get_logger
from components.core.settings import Settings
from components.core.store.artifact import digest_value

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

log = get_logger(__name__)
_KIND_TAG, _TRAINING = "mlflow.experimentKind", "custom_model_development"
"""By this tag MLflow's UI shows an experiment's training runs, not traces of an application."""
PATIENCE = 20.0
"""Seconds to wait for another process's change of the database."""
METRICS_A_BATCH, PARAMETERS_A_BATCH = 1000, 100
"""The most that MLflow takes in one ``log_batch``."""
LONGEST_PARAMETER, LONGEST_NAME = 6000, 250
_UNUSUAL = re.compile(r"[^A-Za-z0-9_\-. :/]")


class Tracker(Protocol):
    """Takes down what there is to know about one run."""

    def parameter(self, name: str, value: object) -> None: ...

    def metric(self, name: str, value: float, step: int = 0) -> None: ...

    def text(self, name: str, content: str) -> None: ...

    def flush(self) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class NoTracker:
    """Takes nothing down."""

    def parameter(self, name: str, value: object) -> None:
        """Nobody follows."""

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Nobody follows."""

    def text(self, name: str, content: str) -> None:
        """Nobody follows."""

    def flush(self) -> None:
        """Nothing waits."""

    def close(self, *, failed: bool) -> None:
        """Nothing is open."""


@dataclass
class MemoryTracker:
    """The twin that only remembers."""

    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    ended: str = ""

    def parameter(self, name: str, value: object) -> None:
        self.parameters[name] = str(value)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self.metrics.setdefault(name, []).append((step, value))

    def text(self, name: str, content: str) -> None:
        self.texts[name] = content

    def flush(self) -> None:
        """Nothing waits."""

    def close(self, *, failed: bool) -> None:
        self.ended = "FAILED" if failed else "FINISHED"


class MlflowTracker:
    """Writes to one MLflow run, a batch at a time: single metrics cost 2.5 ms each."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._metrics: list[Metric] = []
        self._parameters: list[Param] = []

    def parameter(self, name: str, value: object) -> None:
        from mlflow.entities import Param

        self._parameters.append(Param(_allowed(name), str(value)[:LONGEST_PARAMETER]))
        if len(self._parameters) == PARAMETERS_A_BATCH:
            self.flush()

    def metric(self, name: str, value: float, step: int = 0) -> None:
        from mlflow.entities import Metric

        self._metrics.append(Metric(name, float(value), int(time.time() * 1000), step))
        if len(self._metrics) == METRICS_A_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._metrics or self._parameters:
            self.client.log_batch(self.run_id, metrics=self._metrics, params=self._parameters)
        self._metrics, self._parameters = [], []

    def text(self, name: str, content: str) -> None:
        """A text among the run's artifacts."""
        self.client.log_text(self.run_id, content, name)

    def close(self, *, failed: bool) -> None:
        """Write what waits, and end the run."""
        self.flush()
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


class Forgiving:
    """A tracker whose failures end the record and not what is recorded."""

    def __init__(self, open_: Callable[[], Tracker]) -> None:
        self._tracker: Tracker = NoTracker()
        self._try(lambda: setattr(self, "_tracker", open_()))

    def parameter(self, name: str, value: object) -> None:
        self._try(lambda: self._tracker.parameter(name, value))

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self._try(lambda: self._tracker.metric(name, value, step))

    def text(self, name: str, content: str) -> None:
        self._try(lambda: self._tracker.text(name, content))

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
            log.log(level or logging.WARNING, what, root_cause(error))
            self._tracker = NoTracker()


def root_cause(error: BaseException) -> str:
    """What a database or the system said, in a line, of an error that libraries made of it.

    MLflow puts SQLAlchemy's statement, with all its parameters, around SQLite's five words.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, sqlite3.Error | OSError):
        link = link.__cause__ or link.__context__
    return " ".join(str(link or error).split()) or type(error).__name__


def _allowed(name: str) -> str:
    """A parameter's name as MLflow takes it: a file's name may hold commas and brackets."""
    plain = _UNUSUAL.sub(lambda match: f"_{ord(match[0]):x}_", name)
    if len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[: LONGEST_NAME - 13]}-{digest_value(name)[:12]}"


def connect(settings: Settings) -> MlflowClient:
    """A client of the workspace's database, which is made if there is none."""
    from mlflow.tracking import MlflowClient, set_tracking_uri

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It logs a database's error with its statement and stack, and raises it, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    _initialise(settings)
    _settle(settings)
    # A registry looks the files of a version up in the process's default, whatever the client's.
    set_tracking_uri(settings.mlflow_uri)
    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def _initialise(settings: Settings) -> None:
    """Make the database beside its place and move it there whole.

    Its dozens of migrations are no transaction: killed half-way they could not be repeated.
    """
    database = settings.mlflow / "mlflow.db"
    if database.exists():
        return
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    settings.mlflow.mkdir(parents=True, exist_ok=True)
    for leftover in settings.mlflow.glob("mlflow.*.partial*"):
        leftover.unlink()
    with atomic_path(database, suffix=f".{os.getpid()}.partial") as temporary:
        store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
            f"sqlite:///{temporary}", artifact_root(settings)
        )
        store.engine.dispose()


_ADDRESSES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "storage_location"),
)
"""(table, column) of every absolute address that MLflow writes down."""


_ROOT = re.compile(r"(.*/mlflow/artifacts)(?:/[^/]*)?")
"""The root in an experiment's address, which has at most the experiment's id behind it. The last
``/mlflow/artifacts`` counts: a workspace may itself lie below a folder of that name."""


def _settle(settings: Settings) -> None:
    """Let the database of a workspace that was moved or copied name this place.

    MLflow writes absolute addresses; left as they are, a copy would write into its original.
    """
    root = artifact_root(settings)
    with closing(sqlite3.connect(settings.mlflow / "mlflow.db", timeout=PATIENCE)) as database:
        places = database.execute("SELECT artifact_location FROM experiments").fetchall()
        matches = [_ROOT.fullmatch(place or "") for (place,) in places]
        others = {match[1] for match in matches if match} - {root}
        with database:
            # The longest first, and what names this place already stays: one root may begin
            # with another.
            for old in sorted(others, key=len, reverse=True):
                inside = root.startswith(f"{old}/")
                for table, column in _ADDRESSES:
                    database.execute(
                        f"UPDATE {table} SET {column} = :root || substr({column}, :length + 1) "  # noqa: S608
                        f"WHERE substr({column} || '/', 1, :length + 1) = :old || '/' "
                        f"AND NOT (:inside AND substr({column} || '/', 1, length(:root) + 1) "
                        "= :root || '/')",
                        {"root": root, "old": old, "length": len(old), "inside": inside},
                    )


def artifact_root(settings: Settings) -> str:
    """Where MLflow keeps artifacts: an absolute address within the workspace."""
    return (settings.mlflow / "artifacts").as_uri()


def experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    """The id of an experiment, made if there is none."""
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    return str(
        client.create_experiment(
            name, artifact_location=artifact_root(settings), tags={_KIND_TAG: _TRAINING}
        )
    )


TRAININGS = "modelmill-trainings"
"""The experiment of all trainings; a registered model's own has its versions."""
STAGE_TAG = "modelmill.stage_key"


def training_tracker(settings: Settings, stage: str, key: str) -> Tracker:
    """Where a training records itself as it goes; a later try of the same stage goes on there."""

    def opened() -> Tracker:
        client = connect(settings)
        place = experiment(client, settings, TRAININGS)
        found = client.search_runs([place], filter_string=f"tags.`{STAGE_TAG}` = '{key}'")
        if found:
            run_id = found[0].info.run_id
            client.update_run(run_id, status="RUNNING")
        else:
            tags = {STAGE_TAG: key}
            run_id = client.create_run(place, tags=tags, run_name=f"{stage}-{key[:12]}").info.run_id
        return MlflowTracker(client, run_id)

    return Forgiving(opened)


def flatten(prefix: str, value: object) -> dict[str, object]:
    """Nested mappings as ``prefix.key.key`` -> leaf, for parameters."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    leaves: dict[str, object] = {}
    for key, inner in value.items():
        leaves.update(flatten(f"{prefix}.{key}" if prefix else str(key), inner))
    return leaves
