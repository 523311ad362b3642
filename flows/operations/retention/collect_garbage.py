"""``modelmill gc``: deletes what nothing reaches any more.

What stays is found from the roots (``flows/operations/retention/workspace_roots.py``) along the
digests of lineages; all else goes, each place by its own means. Safe beside runs and against kills:

* A run notes every key before it looks it up (``components/core/store/leases.py``). While a
  collection decides and renames, no key can be noted; that takes milliseconds.
* The locks of the registry, the datasets and the Bentos are held, so no version is registered or
  promoted, no corpus pushed and no Bento built meanwhile.
* Everything is renamed into a trash folder first and deleted when all locks are free again.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.io.locks import hold_lock
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.core.store.gc_roots import find_reachable
from components.core.store.leases import Leases
from components.core.store.lineage_graph import ArtifactGraph
from components.core.store.store import stage_folders
from components.core.store.trash import Trash, disk_size
from components.publish.bento_folders import list_bentos
from components.publish.dataset import dataset_gc
from components.publish.dataset.push_dataset import datasets_lock
from components.publish.promotion import audit_log
from components.publish.registry import registry_gc
from components.publish.registry.model_registry import registry_lock
from flows.operations.retention.delete_files import free_locks, sweep_logs, sweep_store
from flows.operations.retention.workspace_roots import find_needs
from flows.runner.prefect import history_retention
from serving.bento import bento_gc


@dataclass
class Collection:
    """What one collection found, place by place."""

    sweeps: list[GcPlan] = field(default_factory=list)
    waiting: int = 0
    """Bytes that an earlier collection left in the trash."""

    @property
    def size(self) -> int:
        return sum(sweep.size for sweep in self.sweeps) + self.waiting

    @property
    def empty(self) -> bool:
        return not self.waiting and not any(sweep.deletions for sweep in self.sweeps)

    def place(self, name: str) -> GcPlan:
        return next(sweep for sweep in self.sweeps if sweep.place == name)

    def as_json(self) -> dict[str, Any]:
        return {
            "bytes": self.size,
            "trash": self.waiting,
            "places": [sweep.as_json() for sweep in self.sweeps],
        }


def look(settings: Settings, keeping: RetentionPolicy) -> Collection:
    """What ``collect`` would delete now; changes nothing.

    Raises:
        DataError: a manifest cannot be read, so what it came from is unknown.
        MillError: a database cannot be read.
    """
    return _look(settings, keeping, Leases(settings.store).keys_in_use(), time.time())


def collect(settings: Settings, keeping: RetentionPolicy) -> Collection:
    """Delete what nothing reaches; returns what went.

    Raises:
        As ``look``; ``TransientError`` where another process kept DVC's lock.
    """
    if not settings.home.is_dir():
        return look(settings, keeping)  # there is nothing, and nothing is made
    with hold_lock(settings.home / "gc.lock"):
        with _held(settings):
            with Leases(settings.store).freeze_keys() as used:
                found = _look(settings, keeping, used, time.time())
                for name in ("store", bento_gc.PLACE, "logs"):
                    _throw_away(found.place(name))
            registry_gc.apply_registry_gc(settings, found.place(registry_gc.PLACE))
            dataset_gc.apply_dataset_gc(settings, found.place(dataset_gc.PLACE))
        history_retention.delete_history(settings, found.place(history_retention.HISTORY_PLACE))
        for trash in trashes(settings):
            trash.empty()
        _tell(settings, found)
    return found


def _tell(settings: Settings, found: Collection) -> None:
    """An entry in the audit log."""
    if not found.empty:
        versions = [
            item.name for item in found.place(registry_gc.PLACE).deletions if item.kind == "version"
        ]
        counts = {sweep.place: len(sweep.deletions) for sweep in found.sweeps if sweep.deletions}
        audit_log.append_entry(settings, "gc", bytes=found.size, deleted=counts, versions=versions)


def clear_locks(settings: Settings, used: frozenset[str]) -> int:
    """Delete lock files of keys that are neither sealed nor begun; returns how many.

    Args:
        used: keys of living processes, frozen.
    """
    root = settings.store
    there = {path.name for path in stage_folders(root)}
    free = free_locks(root, there | used)
    for path in free:
        path.unlink()
    return len(free)


def trashes(settings: Settings) -> list[Trash]:
    """The trash folder of every place."""
    places = ("store", "mlflow", "datasets", "bentos", "logs", "prefect")
    return [Trash(settings.home / place) for place in places]


@contextmanager
def _held(settings: Settings) -> Iterator[None]:
    """No registration, promotion, push, build or smoke test while this is held."""
    with ExitStack() as stack:
        if settings.mlflow.is_dir():
            stack.enter_context(registry_lock(settings))
        if settings.datasets.is_dir():
            stack.enter_context(datasets_lock(settings.datasets))
        if settings.bentos.is_dir():
            stack.enter_context(hold_lock(settings.bentos / "package.lock"))
            stack.enter_context(hold_lock(settings.bentos / "smoke.lock"))
        yield


def _look(
    settings: Settings, keeping: RetentionPolicy, used: frozenset[str], now: float
) -> Collection:
    graph = ArtifactGraph.read(settings.store)
    _refuse_unreadable(settings, graph)
    needs = find_needs(settings, graph, used, keeping, now)
    kept = find_reachable(graph, needs.roots)
    digests = {graph.nodes[key].digest for key in kept}
    digests |= {digest for root in needs.roots for digest in root.digests}
    bentos = bento_gc.plan_bento_gc(
        settings, needs.versions, needs.named, needs.served, keeping, now
    )
    dropped = {path for item in bentos.deletions for path in item.paths}
    staying = {f.name for f, _ in list_bentos(settings) if f not in dropped}
    store = sweep_store(settings, graph, kept, used, keeping, now)
    removed = {path for item in store.deletions for path in item.paths}
    sweeps = [
        store,
        registry_gc.plan_registry_gc(settings, needs.standings, keeping, now, removed),
        dataset_gc.plan_dataset_gc(settings, digests, needs.named, keeping, now),
        bentos,
        history_retention.plan_history_gc(settings, now),
        sweep_logs(settings, needs.processes, staying, keeping, now),
    ]
    waiting = [path for trash in trashes(settings) for path in trash.list_contents()]
    return Collection(sweeps, disk_size(waiting))


def _refuse_unreadable(settings: Settings, graph: ArtifactGraph) -> None:
    if graph.unreadable:
        folder = settings.store / "sealed" / graph.unreadable[0]
        more = f" (and {len(graph.unreadable) - 1} more)" if len(graph.unreadable) > 1 else ""
        raise DataError(
            f"{folder}{more}: artifact.json cannot be read, so nobody knows what it came from and "
            "nothing is deleted; `modelmill doctor` says how to mend it"
        )


def _throw_away(sweep: GcPlan) -> None:
    trash = Trash(sweep.root)
    for item in sweep.deletions:
        for path in item.paths:
            trash.discard(_within(path, sweep.root))


def _within(path: Path, root: Path) -> Path:
    """A path that is what it says: below its place, or half-written records beside the logs."""
    assert path.is_relative_to(root) or path.parent == root.parent / "runs", path
    return path
