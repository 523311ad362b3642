"""Run records: one JSON file a run in the workspace, read by ``modelmill show``."""

from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import MillError
from components.core.io.atomic_write import write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.log import mask_secrets
from components.core.process import shutdown
from components.core.process.process_tree import is_running_since
from components.core.progress import Progress
from components.core.store.artifact import canonical_json
from flows.runner.runner import StepResult

_beginning = threading.Lock()
"""Held from the choice of a record's file until it is there: names hold the process id, so only
runs of one process can choose the same. No reader ever sees an empty record."""


class RunRecord:
    """Listener that keeps a run's record up to date at every step.

    Args:
        folder: folder of the records.
        preset: the run's target, as it was typed.
        name: the run's name in its config.
        started: moment at which the run began.
    """

    def __init__(self, folder: Path, preset: str, name: str, started: datetime) -> None:
        stamp = started.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
        self.name = name
        self.title = f"{name}-{stamp}"
        """Title of the run until it has a model version."""
        with explain_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _beginning:
            self.path = _find_free_file(folder, f"{self.title}-{os.getpid()}")
            self.identifier = self.path.stem
            self._content: dict[str, Any] = {
                "run": self.identifier,
                "preset": preset,
                "name": name,
                "started": started.isoformat(timespec="seconds"),
                "state": "running",
                "process": os.getpid(),
                "steps": [],
            }
            self._write()

    def started(self, name: str) -> None:
        self._content["at"] = name
        self._write()

    def progressed(self, name: str, progress: Progress) -> None:
        """Progress is for the display; the record keeps finished steps."""

    def finished(self, result: StepResult) -> None:
        self._content["steps"].append(step_json(result))
        self._write()

    def failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.close_stopped()
            return
        self.close("failed", f"{name}: {mask_secrets(str(error) or type(error).__name__)}")

    def add_facts(self, **facts: Any) -> None:
        """Add JSON-safe facts to the record, by their names."""
        self._content.update(facts)
        self._write()

    @property
    def is_closed(self) -> bool:
        """True once the run's end is recorded."""
        return bool(self._content["state"] != "running")

    def close_stopped(self) -> None:
        """Record that a signal stopped the run, unless its end is recorded."""
        if not self.is_closed:
            by = str(shutdown.requested_stop() or "stopped by the user")
            at = self._content.get("at")
            self.close("stopped", f"{at}: {by}" if at else by)

    def close(self, state: str, note: str = "") -> None:
        """Record the run's end: ``completed``, ``failed`` or ``stopped``."""
        self._content.update(state=state, note=note)
        self._content.pop("at", None)
        try:
            self._write()
        except MillError:
            if state == "completed":
                raise
            # The error that ended the run is reported; the next command closes the record.

    def _write(self) -> None:
        with explain_full_disk(self.path.parent):
            write_atomically(self.path, canonical_json(self._content))


def _find_free_file(folder: Path, stem: str) -> Path:
    """File of a record; numbered where one process begins several runs in a second."""
    numbered = (folder / f"{stem}-{number}.json" for number in itertools.count(2))
    paths = itertools.chain([folder / f"{stem}.json"], numbered)
    return next(path for path in paths if not path.exists())


def repeat_fields(config: BaseModel, target: str, sets: Sequence[str]) -> dict[str, Any]:
    """Fields of a record from which the same run can be repeated.

    A config that holds a secret is left out, since records are shown.

    Args:
        config: the run's whole config.
        target: as it was typed.
        sets: assignments of ``--set``.
    """
    whole = config.model_dump(mode="json")
    secret = any(mask_secrets(text) != text for text in _strings_in(whole))
    return {
        "target": target,
        "sets": [mask_secrets(assignment) for assignment in sets],
        "folder": str(Path.cwd()),
        "config": None if secret else whole,
    }


def _strings_in(value: Any) -> Iterator[str]:
    """Strings among a config's values, at any depth."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings_in(inner)


def step_json(result: StepResult) -> dict[str, Any]:
    """JSON object of a finished step, in ``--json`` and in the record."""
    return {
        "stage": result.name,
        "state": result.state,
        "seconds": round(result.seconds, 3),
        "digest": result.artifact.digest,
        "artifact": result.artifact.name,
        "stats": result.artifact.stats,
        "note": result.remark,
        "resumed": result.resumed,
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Records of all runs, newest first; one whose process is gone is ``interrupted``."""
    records = [read for path in folder.glob("*.json") if (read := read_record(path)) is not None]
    for record in records:
        if record["state"] == "running" and not is_running(record):
            record["state"] = "interrupted"
    return sorted(records, key=lambda record: str(record["started"]), reverse=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """Record of one run; None where the file is no such record."""
    try:
        record = json.loads(path.read_bytes())
        complete = isinstance(record["steps"], list) and {"run", "state", "process"} <= set(record)
        datetime.fromisoformat(record["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if complete else None


def is_running(record: dict[str, Any]) -> bool:
    """True if the process that wrote the record of a running run still exists."""
    started = datetime.fromisoformat(record["started"]).timestamp()
    return record["state"] == "running" and is_running_since(int(record["process"]), started)


def close_interrupted_record(path: Path) -> None:
    """Close the record of a run whose process is gone, as ``interrupted``."""
    record = read_record(path)
    if record is None or record["state"] != "running" or is_running(record):
        return
    record.update(state="interrupted", note=f"its process ended at {record.pop('at', 'the start')}")
    write_atomically(path, canonical_json(record))
