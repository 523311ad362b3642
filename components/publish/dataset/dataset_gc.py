"""Collection of unneeded datasets from DVC: pins, workspace links, cache and own remote.

DVC's own ``gc`` deletes the objects. It is asked only about the remote inside the workspace: a
folder elsewhere, or a bucket, may hold other people's data, and DVC would delete all of that which
our pins do not name.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.core.io.trash import Trash, last_change_time
from components.core.settings import Settings
from components.core.store.gc_plan import GcPlan, RetentionPolicy
from components.publish.dataset.push_dataset import (
    configure_local_remote,
    object_path,
    retry_while_locked,
)

PLACE = "datasets"
ATTEMPTS = 6
_VERSION = re.compile(r".+-[0-9a-f]{12}")
_REACHED = "of a corpus that stays"
_FOREIGN = "not made by Modelmill"


@dataclass(frozen=True)
class DatasetPin:
    """One ``.dvc`` file."""

    path: Path
    corpus: str
    """Digest of the corpus; empty where Modelmill did not write the pin."""
    md5: str
    """Of its listing, with ``.dir``; empty where the pin cannot be read."""

    @property
    def version(self) -> str:
        return self.path.stem


def read_pins(settings: Settings) -> list[DatasetPin]:
    """Every pin of the workspace; one that cannot be read has neither corpus nor listing."""
    return [_read(path) for path in sorted(settings.datasets.glob("*.dvc")) if path.is_file()]


def _read(path: Path) -> DatasetPin:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        corpus = (content.get("meta") or {}).get("corpus", "")
        return DatasetPin(path, str(corpus), str(content["outs"][0]["md5"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        return DatasetPin(path, "", "")


def read_listing(settings: Settings, pin: DatasetPin) -> dict[str, str] | None:
    """relative name -> md5 of a pin's files, from cache or remote; None where neither has it."""
    for place in _places(settings):
        try:
            content = json.loads(object_path(place, pin.md5).read_bytes())
            return {str(entry["relpath"]): str(entry["md5"]) for entry in content}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _places(settings: Settings) -> tuple[Path, Path]:
    root = settings.datasets
    return root / ".dvc" / "cache", root / "remote"


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
            objects = (
                [] if unknown else [object_path(p, md5) for p in _places(settings) for md5 in own]
            )
            paths = [settings.datasets / pin.version, pin.path, *objects]
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
        for place in _places(settings)
        for path in _objects(place)
        if path.parent.name + path.name not in known
    ]
    if stray:
        plan.add_deletion(f"{len(stray)} objects", "no dataset names them", stray, kind="dataset")


def _objects(place: Path) -> Iterator[Path]:
    return (path for path in (place / "files" / "md5").glob("*/*") if path.is_file())


def _unpinned(settings: Settings, plan: GcPlan, versions: Collection[str]) -> None:
    for folder in sorted(settings.datasets.glob("*/")):
        name = folder.name.removeprefix(".").removesuffix(".tmp")
        half = folder.name.startswith(".") and folder.name.endswith(".tmp")
        if _VERSION.fullmatch(name) and (half or folder.name not in versions):
            plan.add_deletion(folder.name, "left by a push that was killed", [folder])


def apply_dataset_gc(settings: Settings, plan: GcPlan) -> None:
    """Delete what ``plan`` names; the datasets' lock must be held.

    The pins go first: killed after that, the next collection finds objects that nobody names.

    Raises:
        DataError: DVC refuses.
        TransientError: another process kept DVC's lock.
    """
    trash = Trash(settings.datasets)
    for item in plan.deletions:
        for path in item.paths:
            if path.parent == settings.datasets:
                trash.discard(path)
    if not any(item.kind == "dataset" for item in plan.deletions):
        return
    if any(read_listing(settings, pin) is None for pin in read_pins(settings)):
        return  # DVC would take the files of a listing it does not see for unused
    remote = configure_local_remote(settings.datasets)
    retry_while_locked(ATTEMPTS, lambda: _collect(settings.datasets, with_remote=remote.is_dir()))


def _collect(root: Path, *, with_remote: bool) -> None:
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # also keeps its progress bars away
    with Repo(str(root)) as repo:
        repo.gc(workspace=True, cloud=with_remote, force=True)
