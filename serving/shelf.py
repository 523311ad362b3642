"""The Bentos of a workspace: which are needed, and what building and serving left behind."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from components.core.errors import DataError
from components.core.settings import Settings
from components.core.sweep import Keeping, Sweep
from components.core.trash import newest_change
from serving.endpoint import Endpoint, read_endpoint
from serving.package import bentos_folder
from serving.smoke import REPORT_FOLDER

PLACE = "bentos"
LATEST = "latest"
_NEWEST = "the newest Bento of a version that stays"
_SERVED = "served by a living process"
_TAGGED = "modelmill:latest"


@dataclass(frozen=True)
class Packed:
    """One Bento."""

    folder: Path
    endpoint: Endpoint | None
    """None where ``endpoint.json`` cannot be read."""


def packed(settings: Settings) -> list[Packed]:
    """Every Bento, newest first."""
    folders = sorted(bentos_folder(settings).glob("*/"), key=lambda path: -path.stat().st_mtime)
    return [Packed(folder, _endpoint(folder)) for folder in folders]


def _endpoint(folder: Path) -> Endpoint | None:
    try:
        return read_endpoint(folder / "src")
    except DataError:
        return None


def latest(settings: Settings) -> str:
    """The version that ``modelmill:latest`` names; empty where there is none."""
    path = bentos_folder(settings) / LATEST
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def sweep_bentos(
    settings: Settings,
    versions: Mapping[tuple[str, str], str],
    named: Mapping[str, str],
    served: Collection[str],
    keeping: Keeping,
    now: float,
) -> Sweep:
    """What goes of Bentos, smoke reports and leftovers.

    Args:
        versions: (model, digest of its bundle) of every version that stays -> why.
        named: Bento -> why, of those that something else keeps.
        served: Bentos that a living process serves.
    """
    sweep = Sweep(PLACE, settings.bentos)
    staying: set[str] = set()
    covered: set[tuple[str, str]] = set()
    tagged = latest(settings)
    for bento in packed(settings):
        name, endpoint = bento.folder.name, bento.endpoint
        holds = (endpoint.model, endpoint.bundle) if endpoint else ("", "")
        why = ""
        if name in served:
            why = _SERVED
        elif holds in versions and holds not in covered:
            why = _NEWEST
        elif name == tagged:
            why = _TAGGED
        elif name in named:
            why = named[name]
        elif newest_change(bento.folder / "bento.yaml") >= keeping.cutoff(now):
            why = keeping.recent
        covered.add(holds)
        if why:
            sweep.keep(why, [bento.folder])
            staying.add(name)
        else:
            of = f"of {endpoint.model}/{endpoint.version}" if endpoint else "that cannot be read"
            newer = ", which has a newer one" if holds in versions else ", which does not stay"
            sweep.drop(f"modelmill:{name}", f"{of}{newer if endpoint else ''}", [bento.folder])
    _reports(settings, sweep, staying)
    _leftovers(settings, sweep, keeping.cutoff(now))
    return sweep


def _reports(settings: Settings, sweep: Sweep, staying: Collection[str]) -> None:
    for report in sorted((settings.bentos / REPORT_FOLDER).glob("*/")):
        if report.name not in staying:
            sweep.drop(f"{REPORT_FOLDER}/{report.name}", "its Bento does not stay", [report])


def _leftovers(settings: Settings, sweep: Sweep, cutoff: float) -> None:
    """Of builds and servers that are gone; the lock of packaging must be held to delete them."""
    old = (p for p in (settings.bentos / "tmp").glob("*") if newest_change(p) < cutoff)
    for path in (settings.bentos / "partial", *old):
        if path.exists():
            sweep.drop(f"bentos/{path.name}", "left by a build that was killed", [path])
    metrics = settings.bentos / "prometheus_multiproc_dir"
    dead = [path for path in metrics.glob("*_*.db") if not _runs(path.stem.rpartition("_")[2])]
    if dead:
        sweep.drop(f"{len(dead)} metrics files", "of servers that have ended", dead)


def _runs(pid: str) -> bool:
    return pid.isdecimal() and psutil.pid_exists(int(pid))
