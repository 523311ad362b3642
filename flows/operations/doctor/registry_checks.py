"""Checks of what lies outside the store: MLflow registry, DVC datasets, Bentos."""

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
    bentos_folder,
    damaged_files,
    find_newest_bento,
    list_bentos,
)
from components.publish.dataset.dataset_pins import (
    DatasetPin,
    object_path,
    object_places,
    read_listing,
    read_pins,
)
from components.publish.registry.mlflow_tables import select_dangling_aliases
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS,
    RegisteredVersion,
    list_versions,
)
from flows.operations.doctor.finding import (
    Finding,
    list_first,
    or_report_ok,
    python_command,
    report_broken,
    report_warning,
    shell_path,
)
from flows.runner.run_records import read_records
from serving.bento.bento_sources import list_outdated_sources

_REQUIRED_FILE = "bundle.json"


def check_registry(settings: Settings) -> Iterator[Finding]:
    """Check that the database is readable, versions have their files and aliases a version."""
    versions = list_versions(settings)
    what = (
        f"{len(versions)} versions with their files" if versions else "no model is registered yet"
    )
    yield from or_report_ok(_find_damaged_versions(settings, versions), "registry", what)


def _find_damaged_versions(
    settings: Settings, versions: list[RegisteredVersion]
) -> Iterator[Finding]:
    for entry in versions:
        missing = _missing_files(settings, entry) if BUNDLE_TAG in entry.tags else []
        if not missing:
            continue
        what = f"{entry.model} version {entry.version}: missing files: {list_first(missing)}"
        rollback = f"modelmill rollback {entry.model}; " if CHAMPION in entry.aliases else ""
        call = f"delete_model_version({entry.model!r}, '{entry.version}')"
        fix = (
            f"{rollback}{_mlflow_command(settings, call)} && {_remake_command(settings, entry.uri)}"
        )
        yield report_broken("registry", what, fix)
    for model, alias, version in select_dangling_aliases(settings):
        what = f"{model}@{alias} names version {version}, which does not exist"
        call = f"delete_registered_model_alias({model!r}, {alias!r})"
        yield report_broken("registry", what, _mlflow_command(settings, call))


def _missing_files(settings: Settings, entry: RegisteredVersion) -> list[str]:
    """Files of a version that are missing or of another size than the bundle's in the store."""
    folder = entry.files_folder(settings)
    wanted: dict[str, int] = {_REQUIRED_FILE: 0}
    for node in ArtifactGraph.read(settings.store).with_digest(entry.tags[BUNDLE_TAG])[:1]:
        wanted = {name: n for name, n in node.files.items() if not name.startswith(VOLATILE_FOLDER)}
    return [
        name
        for name, size in wanted.items()
        if not (folder / name).is_file() or (size and (folder / name).stat().st_size != size)
    ]


def _mlflow_command(settings: Settings, call: str) -> str:
    import_ = f"from mlflow import MlflowClient as C; C().{call}"
    return (
        f'MLFLOW_TRACKING_URI={shlex.quote(settings.mlflow_uri)} {python_command()} -c "{import_}"'
    )


def _remake_command(settings: Settings, name: str) -> str:
    """Command line of the run that makes an artifact again."""
    for record in read_records(settings.runs):
        if any(Path(step["artifact"]).name == Path(name).name for step in record["steps"]):
            return _run_command(record)
    return "modelmill run tiny"


def _run_command(record: dict[str, Any]) -> str:
    """Command line of a recorded run."""
    repeat = record.get("repeat") or {}
    sets = [f"--set {shlex.quote(assignment)}" for assignment in repeat.get("sets", ())]
    return " ".join(["modelmill run", shlex.quote(str(record["preset"])), *sets])


def check_datasets(settings: Settings) -> Iterator[Finding]:
    """Check that the files of every pin are in DVC's cache or in the workspace's remote."""
    pins = read_pins(settings)
    findings = (finding for pin in pins for finding in _check_dataset(settings, pin))
    what = f"{len(pins)} versions with all their files" if pins else "none yet"
    yield from or_report_ok(findings, "datasets", what)


def _check_dataset(settings: Settings, pin: DatasetPin) -> Iterator[Finding]:
    remake = _remake_command(settings, pin.version)
    if not pin.md5:
        yield report_broken(
            "datasets", f"{pin.path.name} cannot be read", f"rm {shell_path(pin.path)}; {remake}"
        )
        return
    files = read_listing(settings, pin)
    if files is None:
        yield report_broken("datasets", f"{pin.version}: DVC holds no listing of its files", remake)
        return
    cache, remote = object_places(settings)
    wanted = {pin.path.name: pin.md5, **files}
    uncached = [name for name, md5 in wanted.items() if not object_path(cache, md5).is_file()]
    missing = [name for name in uncached if not object_path(remote, wanted[name]).is_file()]
    if missing:
        what = f"{pin.version}: neither cache nor remote holds {list_first(missing)}"
        yield report_broken("datasets", what, remake)
    elif uncached:
        pull = f"cd {shell_path(settings.datasets)} && dvc pull {pin.path.name}"
        yield report_warning(
            "datasets", f"{pin.version}: the cache lacks {list_first(uncached)}", pull
        )
    unlinked = [name for name in files if not (settings.datasets / pin.version / name).is_file()]
    if unlinked and not uncached:
        fix = f"cd {shell_path(settings.datasets)} && dvc checkout {pin.path.name}"
        yield report_warning(
            "datasets", f"{pin.version}: the folder lacks {list_first(unlinked)}", fix
        )


def check_bentos(settings: Settings) -> Iterator[Finding]:
    """Check that every Bento has its files, and champions and their predecessors a Bento.

    A champion without one cannot be served; to a predecessor without one no rollback is possible.
    """
    packed = list_bentos(settings)
    bundles = {(bento.model, bento.bundle) for _, bento in packed if bento}
    findings = chain(
        _find_unpacked_versions(settings, bundles),
        find_damaged_bentos(settings),
        find_outdated_bentos(settings),
    )
    what = f"{len(bundles)} Bentos, one for each champion" if bundles else "none yet"
    yield from or_report_ok(findings, "bentos", what)
    for folder, bento in packed:
        if bento is None:
            fix = f"rm -r {shell_path(folder)}"
            yield report_warning("bentos", f"{BENTO_NAME}:{folder.name} cannot be read", fix)


def _find_unpacked_versions(settings: Settings, bundles: set[tuple[str, str]]) -> Iterator[Finding]:
    for entry in list_versions(settings):
        roles = {CHAMPION, PREVIOUS} & set(entry.aliases)
        if roles and (entry.model, entry.tags.get(BUNDLE_TAG, "")) not in bundles:
            what = f"{entry.model} version {entry.version} ({min(roles)}) has no Bento"
            report = report_broken if CHAMPION in roles else report_warning
            yield report("bentos", what, _remake_command(settings, entry.uri))


def find_outdated_bentos(settings: Settings) -> Iterator[Finding]:
    """Find Bentos of champions that answer by other code than the checkout's."""
    for entry in list_versions(settings):
        name = find_newest_bento(settings, entry) if CHAMPION in entry.aliases else None
        outdated = list_outdated_sources(bentos_folder(settings) / name / "src") if name else []
        if outdated:
            what = (
                f"{BENTO_NAME}:{name} of {entry.model} version {entry.version} was packed with "
                f"other code than this checkout's: {list_first(outdated)}"
            )
            fix = f"{_remake_command(settings, entry.uri)} --until package"
            yield report_warning("bentos", what, fix)


def find_damaged_bentos(settings: Settings, *, deep: bool = False) -> Iterator[Finding]:
    """Find Bentos with missing files; with ``deep``, those whose content has changed."""
    needed = {
        find_newest_bento(settings, e): e for e in list_versions(settings) if CHAMPION in e.aliases
    }
    for folder, bento in list_bentos(settings):
        damaged = damaged_files(folder) if bento else []
        if deep:
            damaged = [each for each in damaged_files(folder, deep=True) if each not in damaged]
        if not damaged:
            continue
        what = f"{BENTO_NAME}:{folder.name} is damaged: {list_first(damaged)}"
        removal = f"rm -r {shell_path(folder)}"
        champion = needed.get(folder.name)
        if champion is None:
            yield report_warning("deep" if deep else "bentos", what, removal)
        else:
            fix = f"{removal} && {_remake_command(settings, champion.uri)}"
            yield report_broken("deep" if deep else "bentos", what, fix)
