"""Collection of unneeded Bentos, and of what building and serving left behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import psutil

from components.core.io.trash import last_change_time
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.bento_folders import PLACE, SMOKE_FOLDER, list_bentos, read_latest
from serving.gateway.server_home import find_dead_homes

_NEWEST = "the newest Bento of a version that stays"
_SERVED = "served by a living process"
_TAGGED = "modelmill:latest"


def plan_bento_gc(
    settings: Settings,
    versions: Mapping[tuple[str, str], str],
    named: Mapping[str, str],
    served: Collection[str],
    keeping: RetentionPolicy,
    now: float,
) -> GcPlan:
    """Plan which Bentos, smoke reports and leftovers go.

    Args:
        settings: workspace whose Bentos are planned.
        versions: (model, digest of its bundle) of every version that stays -> why.
        named: Bento -> why, of those that something else keeps.
        served: Bentos that a living process serves.
        keeping: rules of what is kept whatever its age, and for how long.
        now: Unix time.
    """
    plan = GcPlan(PLACE, settings.bentos)
    staying: set[str] = set()
    covered: set[tuple[str, str]] = set()
    tagged = read_latest(settings)
    for folder, packed in list_bentos(settings):
        name = folder.name
        holds = (packed.model, packed.bundle) if packed else ("", "")
        why = ""
        if name in served:
            why = _SERVED
        elif holds in versions and holds not in covered:
            why = _NEWEST
        elif name == tagged:
            why = _TAGGED
        elif name in named:
            why = named[name]
        elif last_change_time(folder / "bento.yaml") >= keeping.cutoff(now):
            why = keeping.recent
        covered.add(holds)
        if why:
            plan.add_retained(why, [folder])
            staying.add(name)
        else:
            of = f"of {packed.model}/{packed.version}" if packed else "that cannot be read"
            newer = ", which has a newer one" if holds in versions else ", which does not stay"
            plan.add_deletion(f"modelmill:{name}", f"{of}{newer if packed else ''}", [folder])
    _reports(settings, plan, staying)
    _leftovers(settings, plan, keeping.cutoff(now))
    return plan


def _reports(settings: Settings, plan: GcPlan, staying: Collection[str]) -> None:
    for report in sorted((settings.bentos / SMOKE_FOLDER).glob("*/")):
        if report.name not in staying:
            plan.add_deletion(f"{SMOKE_FOLDER}/{report.name}", "its Bento does not stay", [report])


def _leftovers(settings: Settings, plan: GcPlan, cutoff: float) -> None:
    """Of builds and servers that are gone; the lock of packaging must be held to delete them."""
    old = (p for p in (settings.bentos / "tmp").glob("*") if last_change_time(p) < cutoff)
    for path in (settings.bentos / "partial", *old):
        if path.exists():
            plan.add_deletion(f"bentos/{path.name}", "left by a build that was killed", [path])
    # Servers had one folder of metrics together before each had a home of its own.
    shared = settings.bentos / "prometheus_multiproc_dir"
    files = [file for file in shared.glob("*_*.db") if not _runs(file.stem.rpartition("_")[2])]
    dead = [*files, *find_dead_homes(settings.bentos)]
    if dead:
        plan.add_deletion(f"{len(dead)} metrics files", "of servers that have ended", dead)


def _runs(pid: str) -> bool:
    return pid.isdecimal() and psutil.pid_exists(int(pid))
