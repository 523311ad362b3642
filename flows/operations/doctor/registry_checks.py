"""What lies outside the store: the MLflow registry, DVC's datasets, Bentos."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from components.core.settings import Settings
from components.core.store.artifact import VOLATILE_FOLDER
from components.core.store.lineage_graph import ArtifactGraph
from components.publish.bento_folders import (
    BENTO_NAME,
    damaged_files,
    find_newest_bento,
    list_bentos,
)
from components.publish.dataset.dataset_gc import DatasetPin, read_listing, read_pins
from components.publish.dataset.push_dataset import object_path
from components.publish.registry.mlflow_tables import select_dangling_aliases
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS,
    RegisteredVersion,
    list_versions,
)
from flows.operations.doctor.finding import Finding, broken, first, near, or_ok, python, warning
from flows.runner.run_records import read_records

_HELD = "bundle.json"


def check_registry(settings: Settings) -> Iterator[Finding]:
    """The database can be read, every version's files are there, every alias names a version."""
    found = list_versions(settings)
    what = f"{len(found)} versions with their files" if found else "no model is registered yet"
    yield from or_ok(_registry(settings, found), "registry", what)


def _registry(settings: Settings, found: list[RegisteredVersion]) -> Iterator[Finding]:
    for entry in found:
        lost = _lost(settings, entry) if BUNDLE_TAG in entry.tags else []
        if not lost:
            continue
        what = f"{entry.model} version {entry.version}: files are gone: {first(lost)}"
        back = f"modelmill rollback {entry.model}; " if CHAMPION in entry.aliases else ""
        call = f"delete_model_version({entry.model!r}, '{entry.version}')"
        mend = f"{back}{_mlflow(settings, call)} && {_run_of(settings, entry.uri)}"
        yield broken("registry", what, mend)
    for model, alias, version in select_dangling_aliases(settings):
        what = f"{model}@{alias} names version {version}, which is not there"
        call = f"delete_registered_model_alias({model!r}, {alias!r})"
        yield broken("registry", what, _mlflow(settings, call))


def _lost(settings: Settings, entry: RegisteredVersion) -> list[str]:
    """Files of a version that are missing or of another size than the bundle's in the store."""
    folder = entry.files_folder(settings)
    wanted: dict[str, int] = {_HELD: 0}
    for node in ArtifactGraph.read(settings.store).with_digest(entry.tags[BUNDLE_TAG])[:1]:
        wanted = {name: n for name, n in node.files.items() if not name.startswith(VOLATILE_FOLDER)}
    return [
        name
        for name, size in wanted.items()
        if not (folder / name).is_file() or (size and (folder / name).stat().st_size != size)
    ]


def _mlflow(settings: Settings, call: str) -> str:
    import_ = f"from mlflow import MlflowClient as C; C().{call}"
    return f'MLFLOW_TRACKING_URI={shlex.quote(settings.mlflow_uri)} {python()} -c "{import_}"'


def _run_of(settings: Settings, name: str) -> str:
    """The run that makes something again."""
    for record in read_records(settings.runs):
        if any(Path(step["artifact"]).name == Path(name).name for step in record["steps"]):
            return _again(record)
    return "modelmill run tiny"


def _again(record: dict[str, Any]) -> str:
    """The command line of a run."""
    told = record.get("repeat") or {}
    sets = [f"--set {shlex.quote(given)}" for given in told.get("sets", ())]
    return " ".join(["modelmill run", shlex.quote(str(record["preset"])), *sets])


def check_datasets(settings: Settings) -> Iterator[Finding]:
    """Every pin's files are in DVC's cache or in the workspace's remote."""
    pins = read_pins(settings)
    found = (finding for pin in pins for finding in _dataset(settings, pin))
    what = f"{len(pins)} versions, every file there" if pins else "none yet"
    yield from or_ok(found, "datasets", what)


def _dataset(settings: Settings, pin: DatasetPin) -> Iterator[Finding]:
    again = _run_of(settings, pin.version)
    if not pin.md5:
        yield broken("datasets", f"{pin.path.name} cannot be read", f"rm {near(pin.path)}; {again}")
        return
    files = read_listing(settings, pin)
    if files is None:
        yield broken("datasets", f"{pin.version}: DVC holds no listing of its files", again)
        return
    cache, remote = settings.datasets / ".dvc" / "cache", settings.datasets / "remote"
    wanted = {pin.path.name: pin.md5, **files}
    out = [name for name, md5 in wanted.items() if not object_path(cache, md5).is_file()]
    lost = [name for name in out if not object_path(remote, wanted[name]).is_file()]
    if lost:
        what = f"{pin.version}: neither cache nor remote holds {first(lost)}"
        yield broken("datasets", what, again)
    elif out:
        pull = f"cd {near(settings.datasets)} && dvc pull {pin.path.name}"
        yield warning("datasets", f"{pin.version}: the cache lacks {first(out)}", pull)
    shown = [name for name in files if not (settings.datasets / pin.version / name).is_file()]
    if shown and not out:
        mend = f"cd {near(settings.datasets)} && dvc checkout {pin.path.name}"
        yield warning("datasets", f"{pin.version}: the folder lacks {first(shown)}", mend)


def check_bentos(settings: Settings) -> Iterator[Finding]:
    """Every Bento has its files; a champion that is not packed cannot be served, a previous one
    not be gone back to."""
    packed = list_bentos(settings)
    there = {(bento.model, bento.bundle) for _, bento in packed if bento}
    found = chain(_bentos(settings, there), damaged_bentos(settings))
    what = f"{len(there)} packed, each champion among them" if there else "none yet"
    yield from or_ok(found, "bentos", what)
    for folder, bento in packed:
        if bento is None:
            mend = f"rm -r {near(folder)}"
            yield warning("bentos", f"{BENTO_NAME}:{folder.name} cannot be read", mend)


def _bentos(settings: Settings, there: set[tuple[str, str]]) -> Iterator[Finding]:
    for entry in list_versions(settings):
        roles = {CHAMPION, PREVIOUS} & set(entry.aliases)
        if roles and (entry.model, entry.tags.get(BUNDLE_TAG, "")) not in there:
            what = f"{entry.model} version {entry.version} ({min(roles)}) is not packed"
            say = broken if CHAMPION in roles else warning
            yield say("bentos", what, _run_of(settings, entry.uri))


def damaged_bentos(settings: Settings, *, deep: bool = False) -> Iterator[Finding]:
    """Bentos that lack a file; with ``deep``, those that hold another content than was packed."""
    needed = {
        find_newest_bento(settings, e): e for e in list_versions(settings) if CHAMPION in e.aliases
    }
    for folder, bento in list_bentos(settings):
        damaged = damaged_files(folder) if bento else []
        if deep:
            damaged = [each for each in damaged_files(folder, deep=True) if each not in damaged]
        if not damaged:
            continue
        what = f"{BENTO_NAME}:{folder.name} is damaged: {first(damaged)}"
        removal = f"rm -r {near(folder)}"
        champion = needed.get(folder.name)
        if champion is None:
            yield warning("deep" if deep else "bentos", what, removal)
        else:
            mend = f"{removal} && {_run_of(settings, champion.uri)}"
            yield broken("deep" if deep else "bentos", what, mend)
