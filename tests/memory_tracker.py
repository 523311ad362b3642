"""Tracker in memory, which stands in for MLflow's."""

from __future__ import annotations

from dataclasses import dataclass, field

from typing_extensions import override

from components.core.tracking import Tracker


@dataclass
class MemoryTracker(Tracker):
    """Tracker in memory."""

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
