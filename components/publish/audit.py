"""The audit log: who changed what is served or kept, when and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from components.core.artifact import canonical
from components.core.locking import locked
from components.core.settings import Settings


def append(settings: Settings, event: str, /, **facts: Any) -> None:
    """Add an entry to ``<home>/audit.jsonl``."""
    entry = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": event}
    settings.home.mkdir(parents=True, exist_ok=True)
    with locked(settings.home / "audit.lock"), (settings.home / "audit.jsonl").open("ab") as file:
        file.write(canonical({**entry, "facts": facts}) + b"\n")
