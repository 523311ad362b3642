"""Roots of a workspace's garbage collection: versions, runs, living processes, recent artifacts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from components.core.process.workspace_processes import WorkspaceProcess, find_workspace_processes
from components.core.settings import Settings
from components.core.store.gc_plan import RetentionPolicy
from components.core.store.gc_roots import GcRoot
from components.core.store.lineage_graph import ArtifactGraph
from components.publish.bento_folders import bentos_folder
from components.publish.registry.registry_gc import OLD_RUNS, VersionRetention, decide_retention
from flows.runner.run_records import is_running, read_records

IN_USE = "in use by a living process"
_VERSION_SCHEME, _SEALED_PREFIX = "models:/", "sealed/"


@dataclass
class RetentionNeeds:
    """Roots in the store, and things outside of it that must be kept."""

    roots: list[GcRoot] = field(default_factory=list)
    version_retentions: list[VersionRetention] = field(default_factory=list)
    named_reasons: dict[str, str] = field(default_factory=dict)
    """Name of a dataset, Bento or version (its address) -> reason for keeping it."""
    processes: list[WorkspaceProcess] = field(default_factory=list)
    served_bentos: frozenset[str] = frozenset()
    """Bentos that living processes serve."""

    @property
    def version_reasons(self) -> dict[tuple[str, str], str]:
        """(model, digest of its bundle) -> reason, of versions to keep."""
        from components.publish.registry.model_registry import BUNDLE_TAG

        return {
            (retention.entry.model, retention.entry.tags.get(BUNDLE_TAG, "")): retention.why
            for retention in self.version_retentions
            if retention.why
        }


def find_retention_needs(
    settings: Settings,
    graph: ArtifactGraph,
    keys_in_use: frozenset[str],
    policy: RetentionPolicy,
    now: float,
) -> RetentionNeeds:
    """Find everything that must be kept.

    Args:
        settings: workspace whose runs, versions, Bentos and processes are read.
        graph: all sealed artifacts.
        keys_in_use: keys that living processes work with.
        policy: retention by age and by number of runs.
        now: seconds since 1970.
    """
    records = read_records(settings.runs)
    needs = RetentionNeeds(processes=find_workspace_processes(settings))
    needs.served_bentos = _find_served_bentos(settings, needs.processes)
    runs = _kept_runs(records, policy, now)
    for record, why in runs:
        _note_names(needs, record, why)
    needs.version_retentions = decide_retention(settings, needs.named_reasons, policy, now)
    for retention in needs.version_retentions:
        if retention.why and retention.rooted:
            needs.roots.append(retention.root())
            _keep_maker(needs, records, retention)
    needs.roots += [GcRoot(why, keys=_sealed_keys(record)) for record, why in runs]
    needs.roots.append(GcRoot(IN_USE, keys=keys_in_use))
    recent_keys = frozenset(
        k for k, node in graph.nodes.items() if node.made_at >= policy.cutoff(now)
    )
    needs.roots.append(GcRoot(policy.recent, keys=recent_keys))
    return needs


def _kept_runs(
    records: Sequence[dict[str, Any]], policy: RetentionPolicy, now: float
) -> list[tuple[dict[str, Any], str]]:
    """(record, reason) of runs that are running, recent, or among the newest to keep."""
    retained, completed = [], 0
    last = OLD_RUNS.format(runs=policy.runs)
    for record in records:
        if is_running(record):
            retained.append((record, IN_USE))
        elif completed < policy.runs:
            retained.append((record, last))
        elif datetime.fromisoformat(record["started"]).timestamp() >= policy.cutoff(now):
            retained.append((record, policy.recent))
        completed += record["state"] == "completed"
    return retained


def _keep_maker(
    needs: RetentionNeeds, records: Sequence[dict[str, Any]], retention: VersionRetention
) -> None:
    """Keep all stages of the newest run that made a version, so that it stays cached."""
    for record in records:
        if any(step["artifact"] == retention.entry.uri for step in record["steps"]):
            needs.roots.append(GcRoot(retention.why, keys=_sealed_keys(record)))
            _note_names(needs, record, retention.why, versions=False)
            return


def _sealed_keys(record: dict[str, Any]) -> frozenset[str]:
    names = (str(step["artifact"]) for step in record["steps"])
    return frozenset(
        name.removeprefix(_SEALED_PREFIX) for name in names if name.startswith(_SEALED_PREFIX)
    )


def _note_names(
    needs: RetentionNeeds, record: dict[str, Any], why: str, *, versions: bool = True
) -> None:
    """Note the names of what a run's actions made: dataset, version, Bento."""
    for step in record["steps"]:
        name = str(step["artifact"])
        if name.startswith(_SEALED_PREFIX) or (name.startswith(_VERSION_SCHEME) and not versions):
            continue
        # A Bento is named by its path from the store.
        short = name if name.startswith(_VERSION_SCHEME) else Path(name).name
        needs.named_reasons.setdefault(short, why)


def _find_served_bentos(
    settings: Settings, processes: Sequence[WorkspaceProcess]
) -> frozenset[str]:
    folder = str(bentos_folder(settings)) + "/"
    places = (place for process in processes for place in (process.folder, *process.command))
    below_folder = (place.partition(folder)[2] for place in places if place.startswith(folder))
    return frozenset(rest.partition("/")[0] for rest in below_folder)
