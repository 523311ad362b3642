"""Mark-and-sweep garbage collection of a workspace (``modelmill gc``).

Everything reachable from the roots (``flows/operations/retention/workspace_roots.py``) along the
digests of lineages is kept; all else is deleted, each place by a plan of its own
(``components/core/store/gc_plan.py``). Safe beside runs and against kills:

* A run notes every key before it looks it up (``components/core/store/leases.py``). While a
  collection plans and renames, no key can be noted; that takes milliseconds.
* The locks of the registry, the datasets and the Bentos are held, so no version is registered or
  promoted, no corpus pushed and no Bento built meanwhile.
* Everything is renamed into a trash folder first and deleted when all locks are free again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from components.core.errors import DataError
from components.core.io.locks import hold_lock
from components.core.io.trash import disk_size, list_trashes
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.core.store.gc_roots import find_reachable
from components.core.store.leases import Leases
from components.core.store.lineage_graph import ArtifactGraph
from components.core.store.store import stage_folders
from components.publish.bento_folders import list_bentos
from components.publish.dataset import dataset_gc
from components.publish.promotion import audit_log
from components.publish.registry import registry_gc
from flows.operations.retention.deletion_engine import (
    delete_planned,
    empty_trashes,
    find_not_deleted,
    hold_system_locks,
)
from flows.operations.retention.store_gc import find_free_locks, plan_log_gc, plan_store_gc
from flows.operations.retention.workspace_roots import find_retention_needs
from flows.runner.prefect import prefect_database
from serving.adapters import adapter_gc
from serving.bento import bento_gc

_SLOW_PLACES = (registry_gc.PLACE, dataset_gc.PLACE, prefect_database.HISTORY_PLACE)
"""Deleted from when keys may be noted again: MLflow alone takes seconds to import. No lock is held
for the last, which has a database of its own."""


@dataclass
class GarbageCollection:
    """Plans of one collection, a plan for each place."""

    plans: list[GcPlan] = field(default_factory=list)
    trash_bytes: int = 0
    """Bytes that an earlier, killed collection left in the trash."""

    @property
    def size(self) -> int:
        """Bytes to delete."""
        return sum(plan.size for plan in self.plans) + self.trash_bytes

    @property
    def is_empty(self) -> bool:
        """True if there is nothing to delete."""
        return not self.trash_bytes and not any(plan.deletions for plan in self.plans)

    def find_plan(self, name: str) -> GcPlan:
        """Find the plan of a place."""
        return next(plan for plan in self.plans if plan.place == name)

    def plans_but(self, *places: str) -> list[GcPlan]:
        """All plans but those of these places."""
        return [plan for plan in self.plans if plan.place not in places]

    def as_json(self) -> dict[str, Any]:
        return {
            "bytes": self.size,
            "trash": self.trash_bytes,
            "places": [plan.as_json() for plan in self.plans],
        }


def plan_collection(settings: Settings, policy: RetentionPolicy) -> GarbageCollection:
    """Plan what ``collect_garbage`` would delete now; changes nothing.

    Raises:
        DataError: a manifest cannot be read, so its parents are unknown.
        MillError: a database cannot be read.
    """
    return _plan_all(settings, policy, Leases(settings.store).keys_in_use(), time.time())


def collect_garbage(settings: Settings, policy: RetentionPolicy) -> GarbageCollection:
    """Delete everything that no root reaches; returns the plans carried out.

    Raises:
        DataError: a manifest cannot be read, so its parents are unknown.
        MillError: a database cannot be read.
    """
    if not settings.home.is_dir():
        return plan_collection(settings, policy)  # an empty plan; the folder is not created
    with hold_lock(settings.home / "gc.lock"):
        with hold_system_locks(settings):
            with Leases(settings.store).freeze_keys() as keys_in_use:
                collection = _plan_all(settings, policy, keys_in_use, time.time())
                delete_planned(settings, collection.plans_but(*_SLOW_PLACES))
            slow = (registry_gc.PLACE, dataset_gc.PLACE)
            delete_planned(settings, map(collection.find_plan, slow))
        delete_planned(settings, [collection.find_plan(prefect_database.HISTORY_PLACE)])
        empty_trashes(settings)
        _note_not_deleted(settings, collection)
        _record_in_audit_log(settings, collection)
    return collection


def _note_not_deleted(settings: Settings, collection: GarbageCollection) -> None:
    """Note in each plan what of it is still there."""
    for plan in collection.plans:
        plan.notes += [f"still there: {name}" for name in find_not_deleted(settings, [plan])]


def _record_in_audit_log(settings: Settings, collection: GarbageCollection) -> None:
    """Append an entry to the audit log, unless nothing was deleted."""
    if not collection.is_empty:
        versions = [
            item.name
            for item in collection.find_plan(registry_gc.PLACE).deletions
            if item.kind == "version"
        ]
        counts = {plan.place: len(plan.deletions) for plan in collection.plans if plan.deletions}
        audit_log.append_entry(
            settings, "gc", bytes=collection.size, deleted=counts, versions=versions
        )


def delete_free_locks(settings: Settings, keys_in_use: frozenset[str]) -> int:
    """Delete lock files of keys without a sealed or unfinished folder; returns their number.

    Args:
        settings: workspace whose store holds the locks.
        keys_in_use: keys of living processes, frozen.
    """
    root = settings.store
    needed = {path.name for path in stage_folders(root)}
    free = find_free_locks(root, needed | keys_in_use)
    for path in free:
        path.unlink()
    return len(free)


def _plan_all(
    settings: Settings, policy: RetentionPolicy, keys_in_use: frozenset[str], now: float
) -> GarbageCollection:
    graph = ArtifactGraph.read(settings.store)
    _refuse_unreadable(settings, graph)
    needs = find_retention_needs(settings, graph, keys_in_use, policy, now)
    reasons = find_reachable(graph, needs.roots)
    digests = {graph.nodes[key].digest for key in reasons}
    digests |= {digest for root in needs.roots for digest in root.digests}
    bento_plan = bento_gc.plan_bento_gc(
        settings, needs.version_reasons, needs.named_reasons, needs.served_bentos, policy, now
    )
    removed_bentos = {path for item in bento_plan.deletions for path in item.paths}
    kept_bentos = {f.name for f, _ in list_bentos(settings) if f not in removed_bentos}
    store_plan = plan_store_gc(settings, graph, reasons, keys_in_use, policy, now)
    removed = {path for item in store_plan.deletions for path in item.paths}
    plans = [
        store_plan,
        registry_gc.plan_registry_gc(settings, needs.version_retentions, policy, now, removed),
        dataset_gc.plan_dataset_gc(settings, digests, needs.named_reasons, policy, now),
        bento_plan,
        adapter_gc.plan_adapter_gc(settings),
        prefect_database.plan_history_gc(settings, now),
        plan_log_gc(settings, needs.processes, kept_bentos, policy, now),
    ]
    trash_contents = [
        path for trash in list_trashes(settings.home) for path in trash.list_contents()
    ]
    return GarbageCollection(plans, disk_size(trash_contents))


def _refuse_unreadable(settings: Settings, graph: ArtifactGraph) -> None:
    if graph.unreadable:
        folder = settings.store / "sealed" / graph.unreadable[0]
        more = f" (and {len(graph.unreadable) - 1} more)" if len(graph.unreadable) > 1 else ""
        raise DataError(
            f"{folder}{more}: artifact.json cannot be read, so its parents are unknown and "
            "nothing is deleted; `modelmill doctor` names the fix"
        )
