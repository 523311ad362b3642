"""Parameters reach MLflow under names that it takes."""

from __future__ import annotations

import re
from typing import Any

from components.publish.registry.mlflow_client import MlflowTracker


class Client:
    """Takes batches, and refuses names as MLflow does."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def log_batch(self, run: str, metrics: list[Any], params: list[Any]) -> None:
        for parameter in params:
            assert re.fullmatch(r"[A-Za-z0-9_\-. :/]{1,250}", parameter.key), parameter.key
            self.names.append(parameter.key)


def test_names_of_files_are_made_fit_and_stay_apart() -> None:
    client = Client()
    tracker = MlflowTracker(client, "run")  # type: ignore[arg-type]
    given = ["scrape.seed", "digests.a, b.md", "digests.a; b.md", "x" * 400, "x" * 401, "ü (1).md"]
    for name in given:
        tracker.log_parameter(name, "value")
    tracker.flush()
    assert client.names[0] == "scrape.seed"
    assert len(set(client.names)) == len(given)
