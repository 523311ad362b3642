"""What the first rank tells of its training, through a pipe to the process that shows it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any

from components.core.progress import Progress
from components.core.tracking import Tracker

SHOWN = ("total", "unit", "done", "note", "resumed")
Message = tuple[str, Any]


def telling(pipe: Connection) -> Progress:
    """A progress whose every move, and whatever is to be tracked, goes through ``pipe``."""

    def tell(progress: Progress) -> None:
        pipe.send(("progress", {name: getattr(progress, name) for name in SHOWN}))

    return Progress(listener=tell, tracker=lambda: _Telling(pipe))


def messages(pipe: Connection) -> Iterator[Message]:
    """Those that have come so far."""
    with contextlib.suppress(EOFError, OSError):  # the rank is gone
        while pipe.poll():
            yield pipe.recv()


class Hearing:
    """Shows and tracks here what the first rank tells of."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tracker: Tracker | None = None

    def take(self, message: Message) -> bool:
        """Whether the message was one of these."""
        kind, content = message
        if kind == "progress":
            self._show(content)
        elif kind == "track":
            if self._tracker is None:
                self._tracker = self._progress.tracker()
            name, given = content
            getattr(self._tracker, name)(*given)
        return kind in ("progress", "track")

    def close(self, *, failed: bool) -> None:
        """End the record, if there is one."""
        if self._tracker is not None:
            self._tracker.close(failed=failed)

    def _show(self, shown: Mapping[str, Any]) -> None:
        progress = self._progress
        if progress.total is None or shown["done"] < progress.done:
            progress.start(shown["total"], shown["unit"], shown["done"])
        progress.total = shown["total"]
        if shown["resumed"]:
            progress.resume(shown["resumed"])
        progress.advance(shown["done"] - progress.done, note=shown["note"])


class _Telling:
    """A tracker that hands everything on."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe

    def parameter(self, name: str, value: object) -> None:
        self._tell("parameter", name, value)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        self._tell("metric", name, value, step)

    def text(self, name: str, content: str) -> None:
        self._tell("text", name, content)

    def flush(self) -> None:
        self._tell("flush")

    def close(self, *, failed: bool) -> None:
        """Whether it failed is known where the ranks are waited for."""

    def _tell(self, name: str, *given: object) -> None:
        self._pipe.send(("track", (name, given)))
