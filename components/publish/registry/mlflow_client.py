"""Client of the workspace's MLflow database, and the tracker that writes to one of its runs.

Importing MLflow takes 1.5 s, so it is imported inside the functions of this package alone.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from components.core.settings import Settings
from components.core.store.artifact import digest_value
from components.publish.registry.mlflow_tables import (
    artifact_root,
    create_database,
    update_artifact_addresses,
)

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param
    from mlflow.tracking import MlflowClient

_KIND_TAG, _TRAINING = "mlflow.experimentKind", "custom_model_development"
"""By this tag MLflow's UI shows an experiment's training runs, not traces of an application."""
METRICS_A_BATCH, PARAMETERS_A_BATCH = 1000, 100
"""The most that MLflow takes in one ``log_batch``."""
LONGEST_PARAMETER, LONGEST_NAME = 6000, 250
_UNUSUAL = re.compile(r"[^A-Za-z0-9_\-. :/]")


class MlflowTracker:
    """Writes to one MLflow run, a batch at a time: single metrics cost 2.5 ms each."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self.client, self.run_id = client, run_id
        self._metrics: list[Metric] = []
        self._parameters: list[Param] = []

    def log_parameter(self, name: str, value: object) -> None:
        from mlflow.entities import Param

        self._parameters.append(Param(_allowed(name), str(value)[:LONGEST_PARAMETER]))
        if len(self._parameters) == PARAMETERS_A_BATCH:
            self.flush()

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Note one value; it is written with the next batch.

        Args:
            name: name of the metric.
            value: finite value of the series at this step.
            step: step of the training.
        """
        from mlflow.entities import Metric

        self._metrics.append(Metric(name, float(value), int(time.time() * 1000), step))
        if len(self._metrics) == METRICS_A_BATCH:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        if self._metrics or self._parameters:
            self.client.log_batch(self.run_id, metrics=self._metrics, params=self._parameters)
        self._metrics, self._parameters = [], []

    def log_text(self, name: str, content: str) -> None:
        """A text among the run's artifacts."""
        self.client.log_text(self.run_id, content, name)

    def close(self, *, failed: bool) -> None:
        """Write what waits, and end the run."""
        self.flush()
        self.client.set_terminated(self.run_id, "FAILED" if failed else "FINISHED")


def _allowed(name: str) -> str:
    """A parameter's name as MLflow takes it: a file's name may hold commas and brackets."""
    plain = _UNUSUAL.sub(lambda match: f"_{ord(match[0]):x}_", name)
    if len(plain) <= LONGEST_NAME:
        return plain
    return f"{plain[: LONGEST_NAME - 13]}-{digest_value(name)[:12]}"


def connect_mlflow(settings: Settings) -> MlflowClient:
    """A client of the workspace's database, which is made if there is none."""
    from mlflow.tracking import MlflowClient, set_tracking_uri

    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It logs a database's error with its statement and stack, and raises it, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    create_database(settings)
    update_artifact_addresses(settings)
    # A registry looks the files of a version up in the process's default, whatever the client's.
    set_tracking_uri(settings.mlflow_uri)
    return MlflowClient(tracking_uri=settings.mlflow_uri, registry_uri=settings.mlflow_uri)


def ensure_experiment(client: MlflowClient, settings: Settings, name: str) -> str:
    """The id of an experiment, made if there is none.

    Args:
        client: MLflow client of the workspace's database.
        settings: names where its artifacts lie.
        name: name of the experiment.
    """
    existing = client.get_experiment_by_name(name)
    if existing is not None:
        return str(existing.experiment_id)
    return str(
        client.create_experiment(
            name, artifact_location=artifact_root(settings), tags={_KIND_TAG: _TRAINING}
        )
    )


def flatten_mapping(prefix: str, value: object) -> dict[str, object]:
    """Nested mappings as ``prefix.key.key`` -> leaf, for parameters."""
    if not isinstance(value, Mapping):
        return {prefix: value}
    leaves: dict[str, object] = {}
    for key, inner in value.items():
        leaves.update(flatten_mapping(f"{prefix}.{key}" if prefix else str(key), inner))
    return leaves
