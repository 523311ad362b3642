"""A run's record: one JSON file a run in the workspace, so that ``modelmill show`` can tell."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import MillError
from components.core.io.atomic_write import write_atomically
from components.core.log import mask
from components.core.process import shutdown
from components.core.process.process_tree import alive_since
from components.core.progress import Progress
from components.core.store.artifact import canonical
from components.core.store.workdir import full_disk_is_one_line
from flows.runner.runner import Listener, StepResult


class Record:
    """Listens to a run and keeps its file true at every step."""

    def __init__(self, folder: Path, preset: str, name: str, started: datetime) -> None:
        stamp = started.astimezone(UTC).strftime("%Y%m%dT%H%M%S")
        self.name = name
        self.title = f"{name}-{stamp}"
        """What the run is called until it has a model version."""
        self.identifier = f"{self.title}-{os.getpid()}"
        self.path = folder / f"{self.identifier}.json"
        self._content: dict[str, Any] = {
            "run": self.identifier,
            "preset": preset,
            "name": name,
            "started": started.isoformat(timespec="seconds"),
            "state": "running",
            "process": os.getpid(),
            "steps": [],
        }
        with full_disk_is_one_line(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._write()

    def started(self, name: str) -> None:
        self._content["at"] = name
        self._write()

    def progressed(self, name: str, progress: Progress) -> None:
        """Progress is for the display; the record keeps what is done."""

    def finished(self, result: StepResult) -> None:
        self._content["steps"].append(step_json(result))
        self._write()

    def failed(self, name: str, error: BaseException) -> None:
        if isinstance(error, KeyboardInterrupt):
            self.stop()
            return
        self.close("failed", f"{name}: {mask(str(error) or type(error).__name__)}")

    def note(self, **facts: Any) -> None:
        """Enter further facts: JSON-safe, by names of their own."""
        self._content.update(facts)
        self._write()

    @property
    def ended(self) -> bool:
        """Whether the run's end is entered."""
        return bool(self._content["state"] != "running")

    def stop(self) -> None:
        """The end of a run that a signal stopped."""
        if not self.ended:
            by = str(shutdown.asked() or "stopped by the user")
            at = self._content.get("at")
            self.close("stopped", f"{at}: {by}" if at else by)

    def close(self, state: str, note: str = "") -> None:
        """The run's end: ``completed``, ``failed`` or ``stopped``."""
        self._content.update(state=state, note=note)
        self._content.pop("at", None)
        try:
            self._write()
        except MillError:
            if state == "completed":
                raise
            # What ends the run is said by itself; the next command closes the record.

    def _write(self) -> None:
        with full_disk_is_one_line(self.path.parent):
            write_atomically(self.path, canonical(self._content))


def repeatable(config: BaseModel, target: str, sets: Sequence[str]) -> dict[str, Any]:
    """What is needed to run the same again: the whole config, and the folder its globs start from.

    A config that holds a secret is left out, since records are shown.
    """
    whole = config.model_dump(mode="json")
    secret = any(mask(text) != text for text in _texts(whole))
    return {
        "target": target,
        "sets": [mask(given) for given in sets],
        "folder": str(Path.cwd()),
        "config": None if secret else whole,
    }


def _texts(value: Any) -> Iterator[str]:
    """Every string among a config's values."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _texts(inner)


def step_json(result: StepResult) -> dict[str, Any]:
    """One step as ``--json`` and the record show it."""
    return {
        "stage": result.name,
        "state": result.state,
        "seconds": round(result.seconds, 3),
        "digest": result.artifact.digest,
        "artifact": result.artifact.name,
        "stats": result.artifact.stats,
        "note": result.said,
        "resumed": result.resumed,
    }


def read_records(folder: Path) -> list[dict[str, Any]]:
    """All runs, newest first; one whose process is gone without an end is ``interrupted``."""
    records = [read for path in folder.glob("*.json") if (read := read_record(path)) is not None]
    for record in records:
        if record["state"] == "running" and not at_work(record):
            record["state"] = "interrupted"
    return sorted(records, key=lambda record: str(record["started"]), reverse=True)


def read_record(path: Path) -> dict[str, Any] | None:
    """One run's record; None where the file is no such record."""
    try:
        record = json.loads(path.read_bytes())
        complete = isinstance(record["steps"], list) and {"run", "state", "process"} <= set(record)
        datetime.fromisoformat(record["started"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return record if complete else None


def at_work(record: dict[str, Any]) -> bool:
    """Whether the process that wrote a record of a running run is still there."""
    started = datetime.fromisoformat(record["started"]).timestamp()
    return record["state"] == "running" and alive_since(int(record["process"]), started)


def close_dead(path: Path) -> None:
    """Write into the record of a run whose process is gone that it was interrupted."""
    record = read_record(path)
    if record is None or record["state"] != "running" or at_work(record):
        return
    record.update(state="interrupted", note=f"its process ended at {record.pop('at', 'the start')}")
    write_atomically(path, canonical(record))


class Several:
    """Tells several listeners."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self._listeners = listeners

    def started(self, name: str) -> None:
        for listener in self._listeners:
            listener.started(name)

    def progressed(self, name: str, progress: Progress) -> None:
        for listener in self._listeners:
            listener.progressed(name, progress)

    def finished(self, result: StepResult) -> None:
        for listener in self._listeners:
            listener.finished(result)

    def failed(self, name: str, error: BaseException) -> None:
        for listener in self._listeners:
            listener.failed(name, error)
