"""Tracker interface: the record of one run's parameters, metrics and texts.

Stages are given a tracker and know no more of it. The one that writes to MLflow is in
``components/publish/registry``; ``MemoryTracker`` of the tests stands in for it.
"""

from __future__ import annotations

from typing import Protocol

from typing_extensions import override


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
