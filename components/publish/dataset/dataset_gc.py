"""Collection of unneeded datasets from DVC: pins, workspace links, cache and own remote.

A remote elsewhere, a folder or a bucket, is left alone: it may hold other people's data.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from components.core.io.trash import last_change_time
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.dataset.dataset_pins import (
    DatasetPin,
    find_objects,
    list_objects,
    object_md5,
    object_places,
    read_listing,
    read_pins,
    version_folders,
)

PLACE = "datasets"
_VERSION = re.compile(r".+-[0-9a-f]{12}")
_REACHED = "of a corpus that stays"
_FOREIGN = "not made by Modelmill"


def plan_dataset_gc(
    settings: Settings,
    digests: Collection[str],
    named: Mapping[str, str],
    keeping: RetentionPolicy,
    now: float,
) -> GcPlan:
    """Plan which pins, links, cache entries and remote objects go.

    Args:
        settings: workspace whose pins, DVC cache and remotes are planned.
        digests: digests of everything that stays in the store.
        named: version -> why, of datasets that something else keeps.
        keeping: rules of what is kept whatever its age, and for how long.
        now: Unix time.
    """
    plan = GcPlan(PLACE, settings.datasets)
    pins = read_pins(settings)
    whys = {
        pin: _why(pin, digests, named, keeping, last_change_time(pin.path) >= keeping.cutoff(now))
        for pin in pins
    }
    staying = [pin for pin in pins if whys[pin]]
    listings = {pin: read_listing(settings, pin) for pin in pins}
    unknown = [pin.version for pin in staying if listings[pin] is None]
    needed = {md5 for pin in staying for md5 in (pin.md5, *(listings[pin] or {}).values())}
    for pin in staying:
        plan.add_retained(whys[pin], [settings.datasets / pin.version])
    for pin in pins:
        if not whys[pin]:
            own = {pin.md5, *(listings[pin] or {}).values()} - needed
            objects = [] if unknown else find_objects(object_places(settings), own)
            paths = [pin.path, *version_folders(settings, pin.version), *objects]
            plan.add_deletion(pin.version, "of no corpus that stays", paths, kind="dataset")
    if unknown:
        plan.notes.append(
            f"{', '.join(unknown)}: neither cache nor remote holds its listing, so DVC's cache and "
            "remote are left alone; `modelmill doctor` names the fix"
        )
    else:
        named_by_any = {
            md5 for md5_by_name in listings.values() for md5 in (md5_by_name or {}).values()
        }
        _stray(settings, plan, needed | named_by_any | {pin.md5 for pin in pins})
    _unpinned(settings, plan, {pin.version for pin in pins})
    return plan


def _why(
    pin: DatasetPin,
    digests: Collection[str],
    named: Mapping[str, str],
    keeping: RetentionPolicy,
    recent: bool,
) -> str:
    if not pin.corpus:
        return _FOREIGN
    if pin.version in named:
        return named[pin.version]
    if pin.corpus in digests:
        return _REACHED
    return keeping.recent if recent else ""


def _stray(settings: Settings, plan: GcPlan, known: Collection[str]) -> None:
    """Objects that no pin names: of a push or a collection that was killed."""
    stray = [
        path
        for place in object_places(settings)
        for path in list_objects(place)
        if object_md5(path) not in known
    ]
    if stray:
        plan.add_deletion(f"{len(stray)} objects", "no dataset names them", stray)


def _unpinned(settings: Settings, plan: GcPlan, versions: Collection[str]) -> None:
    for folder in sorted(settings.datasets.glob("*/")):
        name = folder.name.removeprefix(".").removesuffix(".tmp")
        half = folder.name.startswith(".") and folder.name.endswith(".tmp")
        if _VERSION.fullmatch(name) and (half or folder.name not in versions):
            plan.add_deletion(folder.name, "left by a push that was killed", [folder])
