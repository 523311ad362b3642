"""Tracker interface: the record of one run's parameters, metrics and texts.

Stages are given a tracker and know no more of it. The one that writes to MLflow is in
``components/publish/registry``; ``MemoryTracker`` stands in for it in tests.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field
from typing import Protocol

from typing_extensions import override

from components.core.errors import error_line


class Tracker(Protocol):
    """Recorder of one run's parameters, metrics and texts."""

    def log_parameter(self, name: str, value: object) -> None: ...

    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """Record one value of a series.

        Args:
            name: name of the series.
            value: finite value of the series at this step.
            step: step of the training.
        """
        ...

    def log_text(self, name: str, content: str) -> None: ...

    def flush(self) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class NoTracker(Tracker):
    """Tracker that records nothing."""

    @override
    def log_parameter(self, name: str, value: object) -> None:
        """No-op: the figures are discarded."""

    @override
    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        """No-op: the figures are discarded."""

    @override
    def log_text(self, name: str, content: str) -> None:
        """No-op: the figures are discarded."""

    @override
    def flush(self) -> None:
        """No-op: no figure is buffered."""

    @override
    def close(self, *, failed: bool) -> None:
        """No-op: no run is open."""


@dataclass
class MemoryTracker(Tracker):
    """Tracker in memory, for tests."""

    parameters: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    ended: str = ""

    @override
    def log_parameter(self, name: str, value: object) -> None:
        self.parameters[name] = str(value)

    @override
    def log_metric(self, name: str, value: float, step: int = 0) -> None:
        self.metrics.setdefault(name, []).append((step, value))

    @override
    def log_text(self, name: str, content: str) -> None:
        self.texts[name] = content

    @override
    def flush(self) -> None:
        """No-op: no figure is buffered."""

    @override
    def close(self, *, failed: bool) -> None:
        self.ended = "FAILED" if failed else "FINISHED"


def root_cause_line(error: BaseException) -> str:
    """Message of the database's or system's error at the root of a library's exception, in a line.

    MLflow wraps SQLite's five words into SQLAlchemy's statement with all its parameters.
    """
    link: BaseException | None = error
    while link is not None and not isinstance(link, sqlite3.Error | OSError):
        link = link.__cause__ or link.__context__
    return error_line(link or error)
