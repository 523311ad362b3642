"""What goes of the store, the logs and half-written files."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import psutil

from components.core.io.locks import is_locked
from components.core.process.workspace_processes import WorkspaceProcess
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.core.store.lineage_graph import ArtifactGraph
from components.core.store.trash import TRASH_FOLDER, last_change_time
from flows.operations.retention.workspace_roots import IN_USE

_GOES_ON = "unfinished stages of the last {days:g} days: their next try goes on from there"


def sweep_store(
    settings: Settings,
    graph: ArtifactGraph,
    kept: Mapping[str, str],
    used: Collection[str],
    keeping: RetentionPolicy,
    now: float,
) -> GcPlan:
    """What goes of sealed artifacts, unfinished stages and locks.

    Args:
        kept: key -> why, of sealed artifacts that stay.
        used: keys that living processes work with.
    """
    root = settings.store
    sweep = GcPlan("store", root)
    gone: dict[str, str] = {}
    for key, node in sorted(graph.nodes.items(), key=lambda pair: pair[1].made_at):
        if key in kept or is_locked(root / "locks" / key):
            sweep.add_retained(kept.get(key, IN_USE), [root / "sealed" / key])
        else:
            gone[key] = node.stage
    for key, stage in gone.items():
        why = "nothing that stays came from it"
        sweep.add_deletion(f"{stage} {key[:12]}", why, [root / "sealed" / key])
    staying = graph.nodes.keys() - gone.keys() | set(graph.unreadable)
    staying |= _sweep_partial(sweep, staying, used, keeping, now)
    unlocked = free_locks(root, staying | set(used))
    if unlocked:
        sweep.add_deletion(f"{len(unlocked)} lock files", "nothing is left to lock", unlocked)
    return sweep


def free_locks(root: Path, needed: Collection[str]) -> list[Path]:
    """Lock files that nobody holds, of keys that are not ``needed``."""
    locks = sorted((root / "locks").glob("*"))
    return [path for path in locks if path.name not in needed and not is_locked(path)]


def _sweep_partial(
    sweep: GcPlan,
    sealed: Collection[str],
    used: Collection[str],
    keeping: RetentionPolicy,
    now: float,
) -> set[str]:
    """Unfinished stages; returns the keys of those that stay."""
    staying = set[str]()
    for folder in sorted((sweep.root / "partial").glob("*")):
        name = folder.name
        if name in used or is_locked(sweep.root / "locks" / name) or _is_adopting(name):
            sweep.add_retained(IN_USE)
            staying.add(name)
        elif name in sealed:
            sweep.add_deletion(f"partial {name[:12]}", "its stage is sealed", [folder])
        elif name.startswith("adopt-"):
            sweep.add_deletion(
                f"partial {name}", "left by `modelmill stage` when it was killed", [folder]
            )
        elif last_change_time(folder) >= keeping.cutoff(now):
            sweep.add_retained(_GOES_ON.format(days=keeping.days))
            staying.add(name)
        else:
            days = (now - last_change_time(folder)) / 86_400
            sweep.add_deletion(
                f"partial {name[:12]}", f"left unfinished {days:.0f} days ago", [folder]
            )
    return staying


def _is_adopting(name: str) -> bool:
    """``adopt-<process>-<n>`` of a process that lives."""
    prefix, _, rest = name.partition("-")
    pid = rest.partition("-")[0]
    return prefix == "adopt" and pid.isdecimal() and psutil.pid_exists(int(pid))


def sweep_logs(
    settings: Settings,
    processes: Collection[WorkspaceProcess],
    bentos: Collection[str],
    keeping: RetentionPolicy,
    now: float,
) -> GcPlan:
    """What goes of logs and of half-written records.

    Args:
        bentos: those that stay.
    """
    sweep = GcPlan("logs", settings.logs)
    opened = _open_files(processes)
    for path in sorted(settings.logs.glob("*")):
        if path.name == TRASH_FOLDER or not path.is_file():
            continue
        smoked = path.stem.removeprefix("smoke-")
        if str(path) in opened:
            sweep.add_retained(IN_USE, [path])
        elif path.stem != smoked and smoked not in bentos:
            sweep.add_deletion(path.name, "its Bento does not stay", [path])
        elif path.stem == smoked and path.stat().st_mtime < keeping.cutoff(now):
            sweep.add_deletion(path.name, f"not written for {keeping.days:g} days", [path])
        else:
            sweep.add_retained("young, or of a Bento that stays", [path])
    half = [p for p in settings.runs.glob("*.tmp") if p.stat().st_mtime < keeping.cutoff(now)]
    if half:
        sweep.add_deletion(
            f"{len(half)} half-written records", "left by runs that were killed", half
        )
    return sweep


def _open_files(processes: Collection[WorkspaceProcess]) -> set[str]:
    found = set[str]()
    for one in processes:
        for descriptor in Path("/proc", str(one.pid), "fd").glob("*"):
            try:
                found.add(str(descriptor.readlink()))
            except OSError:
                continue  # it closed it, or it is somebody else's
    return found
