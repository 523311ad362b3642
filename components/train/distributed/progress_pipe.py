"""Pipe for the progress and metrics of rank 0, to the process that shows them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from components.core.progress import Progress
from components.core.tracking import Tracker

SENT_FIELDS = ("total", "unit", "done", "note", "resumed")
Message = tuple[str, Any]


def piped_progress(pipe: Connection) -> Progress:
    """A progress that sends every update, and every tracked metric, through ``pipe``."""

    def tell(progress: Progress) -> None:
        pipe.send(("progress", {name: getattr(progress, name) for name in SENT_FIELDS}))

    return Progress(listener=tell, open_tracker=lambda: _PipeTracker(pipe))


def read_messages(pipe: Connection) -> Iterator[Message]:
    """Messages that have arrived so far."""
    with contextlib.suppress(EOFError, OSError):  # the rank is gone
        while pipe.poll():
            yield pipe.recv()


class PipeReader:
    """Applies the messages of rank 0 to this process's progress and tracker."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tracker: Tracker | None = None

    def apply_message(self, message: Message) -> bool:
        """Apply a message; False where it is neither progress nor metric."""
        kind, content = message
        if kind == "progress":
            self._show_progress(content)
        elif kind == "track":
            if self._tracker is None:
                self._tracker = self._progress.open_tracker()
            name, arguments = content
            getattr(self._tracker, name)(*arguments)
        return kind in ("progress", "track")

    def close(self, *, failed: bool) -> None:
        """Close the tracker, if one was opened."""
        if self._tracker is not None:
            self._tracker.close(failed=failed)

    def _show_progress(self, shown: Mapping[str, Any]) -> None:
        progress = self._progress
        if progress.total is None or shown["done"] < progress.done:
            progress.start_count(shown["total"], shown["unit"], shown["done"])
        progress.total = shown["total"]
        if shown["resumed"]:
            progress.note_resumed(shown["resumed"])
        progress.advance(shown["done"] - progress.done, note=shown["note"])


class _PipeTracker:
    """Tracker that sends every call through the pipe."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def log_parameter(self, name: str, value: object) -> None:
        self._send("log_parameter", name, value)

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        self._send("log_metric", name, value, step)

    def log_text(self, name: str, content: str) -> None:
        self._send("log_text", name, content)

    def flush(self) -> None:
        self._send("flush")

    def close(self, *, failed: bool) -> None:
        """No-op: the process that waits for the ranks knows their exit codes."""

    def _send(self, name: str, *given: object) -> None:
        self._pipe.send(("track", (name, given)))
