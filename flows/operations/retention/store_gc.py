"""Garbage collection plans of the store, of logs and of half-written records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from components.core.io.locks import is_locked
from components.core.io.trash import TRASH_FOLDER, last_change_time
from components.core.process.workspace_processes import WorkspaceProcess
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.core.store.lineage_graph import ArtifactGraph
from flows.operations.retention.workspace_roots import IN_USE

_RESUMABLE = "unfinished stages of the last {days:g} days: their next try goes on from there"


def plan_store_gc(
    settings: Settings,
    graph: ArtifactGraph,
    reasons: Mapping[str, str],
    keys_in_use: Collection[str],
    policy: RetentionPolicy,
    now: float,
) -> GcPlan:
    """Plan which sealed artifacts, unfinished stages and locks are deleted.

    Args:
        settings: workspace whose store is planned.
        graph: all sealed artifacts.
        reasons: key -> reason, of sealed artifacts to keep.
        keys_in_use: keys that living processes work with.
        policy: retention by age.
        now: seconds since 1970.
    """
    root = settings.store
    plan = GcPlan("store", root)
    unreachable: dict[str, str] = {}
    for key, node in sorted(graph.nodes.items(), key=lambda pair: pair[1].made_at):
        if key in reasons or is_locked(root / "locks" / key):
            plan.add_retained(reasons.get(key, IN_USE), [root / "sealed" / key])
        else:
            unreachable[key] = node.stage
    for key, stage in unreachable.items():
        why = "nothing that stays came from it"
        plan.add_deletion(f"{stage} {key[:12]}", why, [root / "sealed" / key])
    retained = graph.nodes.keys() - unreachable.keys() | set(graph.unreadable)
    retained |= _plan_unfinished_gc(plan, retained, keys_in_use, policy, now)
    unlocked = find_free_locks(root, retained | set(keys_in_use))
    if unlocked:
        plan.add_deletion(f"{len(unlocked)} lock files", "nothing is left to lock", unlocked)
    return plan


def find_free_locks(root: Path, needed: Collection[str]) -> list[Path]:
    """Find lock files that are not held, of keys that are not ``needed``."""
    locks = sorted((root / "locks").glob("*"))
    return [path for path in locks if path.name not in needed and not is_locked(path)]


def _plan_unfinished_gc(
    plan: GcPlan,
    sealed: Collection[str],
    keys_in_use: Collection[str],
    policy: RetentionPolicy,
    now: float,
) -> set[str]:
    """Plan the deletion of unfinished stages; returns the keys of those to keep."""
    retained = set[str]()
    for folder in sorted((plan.root / "partial").glob("*")):
        name = folder.name
        if name in keys_in_use or is_locked(plan.root / "locks" / name) or _is_adopting(name):
            plan.add_retained(IN_USE)
            retained.add(name)
        elif name in sealed:
            plan.add_deletion(f"partial {name[:12]}", "its stage is sealed", [folder])
        elif name.startswith("adopt-"):
            plan.add_deletion(
                f"partial {name}", "left by `modelmill stage` when it was killed", [folder]
            )
        elif last_change_time(folder) >= policy.cutoff(now):
            plan.add_retained(_RESUMABLE.format(days=policy.days))
            retained.add(name)
        else:
            days = (now - last_change_time(folder)) / 86_400
            plan.add_deletion(
                f"partial {name[:12]}", f"left unfinished {days:.0f} days ago", [folder]
            )
    return retained


def _is_adopting(name: str) -> bool:
    """True for ``adopt-<process>-<n>`` of a living process."""
    prefix, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return prefix == "adopt" and pid.isdecimal() and psutil.pid_exists(int(pid))


def plan_log_gc(
    settings: Settings,
    processes: Collection[WorkspaceProcess],
    bentos: Collection[str],
    policy: RetentionPolicy,
    now: float,
) -> GcPlan:
    """Plan which logs and half-written records are deleted.

    Args:
        settings: workspace whose logs and run records are planned.
        processes: processes of the workspace; the files they have open are kept.
        bentos: names of the Bentos to keep, with the logs of their smoke tests.
        policy: retention by age.
        now: seconds since 1970.
    """
    plan = GcPlan("logs", settings.logs)
    open_files = _open_files(processes)
    for path in sorted(settings.logs.glob("*")):
        if path.name == TRASH_FOLDER or not path.is_file():
            continue
        smoked_bento = path.stem.removeprefix("smoke-")
        if str(path) in open_files:
            plan.add_retained(IN_USE, [path])
        elif path.stem != smoked_bento and smoked_bento not in bentos:
            plan.add_deletion(path.name, "its Bento does not stay", [path])
        elif path.stem == smoked_bento and path.stat().st_mtime < policy.cutoff(now):
            plan.add_deletion(path.name, f"not written for {policy.days:g} days", [path])
        else:
            plan.add_retained("young, or of a Bento that stays", [path])
    half_written = [
        p for p in settings.runs.glob("*.tmp") if p.stat().st_mtime < policy.cutoff(now)
    ]
    if half_written:
        plan.add_deletion(
            f"{len(half_written)} half-written records",
            "left by runs that were killed",
            half_written,
        )
    return plan


def _open_files(processes: Collection[WorkspaceProcess]) -> set[str]:
    paths = set[str]()
    for process in processes:
        for descriptor in Path("/proc", str(process.pid), "fd").glob("*"):
            try:
                paths.add(str(descriptor.readlink()))
            except OSError:
                continue  # closed meanwhile, or of another user
    return paths
