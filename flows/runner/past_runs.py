"""History of runs: the most similar earlier result of a stage, and the seconds it took.

Seconds come from the run records (the median where a stage really ran) and from
the store's stats; ``flows/runner/stage_time.py`` scales them to the work that there is this time.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from components.core.store.artifact import UNKNOWN
from components.core.store.store import StageRequest, Store
from flows.runner.runner import COMPLETED
from models.shape import DecoderShape, shape_from_json

MODEL_ROLES = ("model", "policy", "incumbent")
"""Roles in which a stage is given its model, the most telling first."""
WORK_FIELDS = ("steps", "iterations")
"""Config fields to which a stage's time is proportional."""
ConfigDifference = tuple[str, Any, Any]


class RunHistory:
    """Manifests of everything sealed, and the steps of run records.

    Args:
        store: store whose sealed artifacts are compared.
        records: records of runs, newest first.
        name: name of the run that is planned: its own earlier results come first.
    """

    def __init__(
        self, store: Store, records: Sequence[Mapping[str, Any]] = (), name: str = ""
    ) -> None:
        self._store = store
        self._name = name
        self._manifests: dict[str, list[dict[str, Any]]] = {}
        self._seconds_by_artifact: dict[str, list[float]] = {}
        self._seconds_by_step: dict[str, list[float]] = {}
        self._own_artifacts: set[str] = set()
        self._by_digest: dict[str, dict[str, Any]] = {}
        for manifest in store.sealed_manifests():
            self._manifests.setdefault(manifest.get("component", ""), []).append(manifest)
            self._by_digest[manifest["artifact"]["digest"]] = manifest
        for record in records:
            self._add_record(record)

    def _add_record(self, record: Mapping[str, Any]) -> None:
        for step in record.get("steps", ()):
            if record.get("name") == self._name:
                self._own_artifacts.add(step["artifact"])
            if step["state"] == COMPLETED:
                self._seconds_by_artifact.setdefault(step["artifact"], []).append(step["seconds"])
                self._seconds_by_step.setdefault(step["stage"], []).append(step["seconds"])

    def most_similar(self, request: StageRequest) -> dict[str, Any] | None:
        """The earlier result that is most like ``request``; None where the stage never ran.

        One of a run of the same name comes first, then the one with the fewest differences in
        config, code and known inputs, then the newest.
        """
        manifests = self._manifests.get(request.lineage.component, [])
        config = request.config.model_dump(mode="json")
        code = self._store.code.code_parts(request.component, request.config)

        def dissimilarity(index: int) -> tuple[bool, int, int]:
            manifest = manifests[index]
            before = manifest["artifact"]["lineage"]["parents"]
            changes = len(list(config_differences(manifest.get("config", {}), config)))
            changes += len(changed_modules(manifest, code))
            changes += len(changed_parents(before, request.lineage.parents))
            return manifest["artifact"]["name"] not in self._own_artifacts, changes, -index

        return manifests[min(range(len(manifests)), key=dissimilarity)] if manifests else None

    def seconds_of(self, manifest: Mapping[str, Any] | None) -> float | None:
        """Seconds in which an earlier result was made; None where nothing recorded them."""
        if manifest is None:
            return None
        recorded = self._seconds_by_artifact.get(manifest["artifact"]["name"])
        if recorded:
            return statistics.median(recorded)
        sealed = manifest["artifact"]["stats"].get("seconds")
        return None if sealed is None else float(sealed)

    def action_seconds(self, name: str) -> float | None:
        """Median seconds of an action where it had something to do; None where it never had."""
        seconds = self._seconds_by_step.get(name)
        return statistics.median(seconds) if seconds else None

    def shape_of(self, manifest: Mapping[str, Any]) -> DecoderShape | None:
        """Shape of the model that an earlier result is, or was made with."""
        shape = manifest.get("config", {}).get("shape")
        if isinstance(shape, Mapping):
            try:
                return shape_from_json(dict(shape))
            except (AttributeError, TypeError, ValueError):  # of a former version
                return None
        parents = manifest["artifact"]["lineage"]["parents"]
        for role in MODEL_ROLES:
            parent = self._by_digest.get(parents.get(role, ""))
            if parent is not None and parent is not manifest:
                return self.shape_of(parent)
        return None


def scale_seconds(last: float, old: Mapping[str, Any], new: Mapping[str, Any]) -> float:
    """Scale the seconds of an earlier run to another config.

    A budget of minutes counts as it stands, and what the stage took beyond it is added. Steps and
    iterations are proportional. Other fields are taken to make no difference.

    Args:
        last: seconds with ``old``.
        old: config of the earlier run.
        new: config of the run to come.
    """
    before, after = budget_seconds(old), budget_seconds(new)
    if before is not None and after is not None:
        overhead = last - before
        return after + overhead if overhead >= 0 else last * after / before
    if after is not None:  # steps became a budget
        return after
    for field in WORK_FIELDS:
        count, wanted = old.get(field), new.get(field)
        if isinstance(count, int) and isinstance(wanted, int) and count > 0:
            return last * wanted / count
    return last


def budget_seconds(config: Mapping[str, Any]) -> float | None:
    """Seconds of a config's time budget; None where steps are counted or there is none."""
    minutes = config.get("minutes")
    if config.get("steps") is not None or not isinstance(minutes, int | float):
        return None
    return 60.0 * minutes


def config_differences(old: Any, new: Any, at: str = "") -> Iterator[ConfigDifference]:
    """Fields in which two configs differ, as (dotted field, old value, new value).

    Args:
        old: value of the earlier config; its whole mapping at the top.
        new: value of the other config.
        at: dotted field that the two values stand at.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from config_differences(old.get(key), new.get(key), f"{at}.{key}" if at else key)
    elif old != new:
        yield at, old, new


def changed_modules(manifest: Mapping[str, Any], code: Mapping[str, str]) -> list[str]:
    """Modules and packages that were added, removed or edited since ``manifest`` was made."""
    before = manifest.get("code", {})
    return sorted(
        name for name in code.keys() | before.keys() if code.get(name) != before.get(name)
    )


def changed_parents(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Roles whose known input differs from the one before, and roles that came or went."""
    changed = [role for role, digest in now.items() if digest not in (UNKNOWN, before.get(role))]
    return changed + [role for role in before if role not in now]


def artifact_key(manifest: Mapping[str, Any]) -> str:
    """The store's key of a manifest."""
    return Path(manifest["artifact"]["name"]).name
