"""What past runs tell about the next one: the most similar earlier try, and how long it takes.

Seconds come from the run records (the median of what a stage took where it really ran) and from
the store's stats; ``flows/runner/stage_time.py`` scales them to the work that there is this time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.store.store import Request, Store
from flows.runner.runner import COMPLETED
from models.shape import DecoderShape, shape_from

UNKNOWN = "?"
"""Digest of an output that only the run itself will tell."""
MODELS = ("model", "policy", "incumbent")
"""Roles of a stage's input that say which model it is about."""
WORK = ("steps", "iterations")
"""Fields to which a stage's time is proportional."""
Difference = tuple[str, Any, Any]


class History:
    """Everything sealed, and the records of runs, newest first."""

    def __init__(
        self, store: Store, records: Sequence[Mapping[str, Any]] = (), name: str = ""
    ) -> None:
        self._store = store
        self._name = name
        self._made: dict[str, list[dict[str, Any]]] = {}
        self._took: dict[str, list[float]] = {}
        self._acted: dict[str, list[float]] = {}
        self._own: set[str] = set()
        self._of_digest: dict[str, dict[str, Any]] = {}
        for manifest in store.sealed():
            self._made.setdefault(manifest.get("component", ""), []).append(manifest)
            self._of_digest[manifest["artifact"]["digest"]] = manifest
        for record in records:
            self._read(record)

    def _read(self, record: Mapping[str, Any]) -> None:
        for step in record.get("steps", ()):
            if record.get("name") == self._name:
                self._own.add(step["artifact"])
            if step["state"] == COMPLETED:
                self._took.setdefault(step["artifact"], []).append(step["seconds"])
                self._acted.setdefault(step["stage"], []).append(step["seconds"])

    def nearest(self, request: Request) -> dict[str, Any] | None:
        """The earlier result that is most like ``request``; None where the stage never ran.

        One of a run of the same name comes first, then the one with the fewest differences in
        config, code and known inputs, then the newest.
        """
        made = self._made.get(request.lineage.component, [])
        config = request.config.model_dump(mode="json")
        code = self._store.code.parts(request.component)

        def unlike(at: int) -> tuple[bool, int, int]:
            manifest = made[at]
            before = manifest["artifact"]["lineage"]["parents"]
            apart = len(list(differences(manifest.get("config", {}), config)))
            apart += len(changed_modules(manifest, code))
            apart += len(changed_parents(before, request.lineage.parents))
            return manifest["artifact"]["name"] not in self._own, apart, -at

        return made[min(range(len(made)), key=unlike)] if made else None

    def seconds(self, manifest: Mapping[str, Any] | None) -> float | None:
        """What it took to make an earlier result."""
        if manifest is None:
            return None
        recorded = self._took.get(manifest["artifact"]["name"])
        if recorded:
            return statistics.median(recorded)
        sealed = manifest["artifact"]["stats"].get("seconds")
        return None if sealed is None else float(sealed)

    def action_seconds(self, name: str) -> float | None:
        """What an action took where it had something to do, in the median."""
        took = self._acted.get(name)
        return statistics.median(took) if took else None

    def shape_of(self, manifest: Mapping[str, Any]) -> DecoderShape | None:
        """The shape of the model that an earlier result is, or was made with."""
        shape = manifest.get("config", {}).get("shape")
        if isinstance(shape, Mapping):
            try:
                return shape_from(dict(shape))
            except (AttributeError, TypeError, ValueError):  # of a former version
                return None
        parents = manifest["artifact"]["lineage"]["parents"]
        for role in MODELS:
            parent = self._of_digest.get(parents.get(role, ""))
            if parent is not None and parent is not manifest:
                return self.shape_of(parent)
        return None


def scaled(last: float, old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """``last`` seconds with the config ``old``, as they will be with ``new``.

    A budget of minutes is kept as it is; what a stage took beyond it stays. Steps and iterations
    are proportional. Other fields are taken to make no difference.
    """
    before, after = budget_seconds(old), budget_seconds(new)
    if before is not None and after is not None:
        over = last - before
        return after + over if over >= 0 else last * after / before
    if after is not None:  # steps became a budget
        return after
    for field in WORK:
        count, wanted = old.get(field), new.get(field)
        if isinstance(count, int) and isinstance(wanted, int) and count > 0:
            return last * wanted / count
    return last


def budget_seconds(config: Mapping[str, Any]) -> float | None:
    """Seconds of a time budget; None where steps are counted or there is none."""
    minutes = config.get("minutes")
    if config.get("steps") is not None or not isinstance(minutes, int | float):
        return None
    return 60.0 * minutes


def differences(old: Any, new: Any, at: str = "") -> Iterator[Difference]:
    """(dotted field, old, new) wherever two configs differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at, old, new


def changed_modules(manifest: Mapping[str, Any], code: Mapping[str, str]) -> list[str]:
    """Modules and packages that are new, gone or others than when ``manifest`` was made."""
    before = manifest.get("code", {})
    return sorted(
        name for name in code.keys() | before.keys() if code.get(name) != before.get(name)
    )


def changed_parents(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Roles whose input is known and another one than before, or that came or went."""
    came = [role for role, digest in now.items() if digest not in (UNKNOWN, before.get(role))]
    return came + [role for role in before if role not in now]


def artifact_key(manifest: Mapping[str, Any]) -> str:
    """The store's key of a manifest."""
    return Path(manifest["artifact"]["name"]).name
