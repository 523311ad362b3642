"""Checks of the store: manifests, files and sizes; deep, the content of all files and copies."""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.io.locks import is_locked
from components.core.io.trash import disk_size, last_change_time, list_trashes
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import (
    MANIFEST_FILE,
    digest_file,
    digest_folder,
    digest_value,
    find_odd_entries,
)
from components.core.store.gc_plan import DAY_SECONDS, RetentionPolicy
from components.core.store.workdir import stage_name
from components.publish.bento_folders import FILE_LIST, list_bentos
from components.publish.dataset.dataset_pins import (
    digest_md5,
    list_objects,
    object_md5,
    object_places,
)
from components.publish.promotion import audit_log
from components.publish.registry.model_registry import BUNDLE_TAG, list_versions
from flows.operations.doctor.finding import (
    Finding,
    list_first,
    or_report_ok,
    report_broken,
    report_info,
    report_ok,
    report_warning,
    shell_path,
)
from flows.operations.doctor.registry_checks import find_damaged_bentos
from flows.operations.retention.purge import journal_path, read_unfinished_purge
from flows.runner.progress_display import format_bytes
from flows.runner.run_records import read_records

_KEY_DIGITS = 64
_COPIED_FILES = ("*/model.onnx*", "tokenizer.json", "bundle.json")
"""Files of a bundle that a Bento and a registered version hold as unchanged copies."""


def check_store(settings: Settings) -> Iterator[Finding]:
    """Check the manifest of every sealed folder, and its files by name and size."""
    folders = sorted((settings.store / "sealed").glob("*/"))
    findings = (damage for folder in folders for damage in check_sealed_folder(settings, folder))
    yield from or_report_ok(
        findings, "store", f"{len(folders)} artifacts, files and sizes as sealed"
    )


def check_sealed_folder(settings: Settings, folder: Path) -> Iterator[Finding]:
    """Check one sealed folder without reading its files."""
    short = f"sealed/{folder.name[:12]}"
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        artifact, files = manifest["artifact"], dict(manifest["files"])
        lineage = digest_value(artifact["lineage"])
        what = f"{short} ({artifact['lineage']['component'].rpartition('.')[2]})"
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        # A run takes it for absent and makes it again.
        yield report_broken(
            "store", f"{short}: artifact.json cannot be read", _remake_command(settings, folder)
        )
        return
    if len(folder.name) == _KEY_DIGITS and lineage != folder.name:
        fix = f"{removal_command(folder)} && {_remake_command(settings, folder)}"
        yield report_broken(
            "store", f"{what}: artifact.json was edited: its lineage has another key", fix
        )
    missing = [name for name in files if not (folder / name).is_file()]
    if missing:
        yield report_broken(
            "store",
            f"{what}: missing files: {list_first(missing)}",
            _remake_command(settings, folder),
        )
    resized = [
        name
        for name in files
        if name not in missing and (folder / name).stat().st_size != files[name]
    ]
    if resized:
        yield report_broken(
            "store",
            f"{what}: files of another size: {list_first(resized)}",
            _remake_command(settings, folder),
        )


def removal_command(folder: Path) -> str:
    """Shell command that deletes a read-only folder."""
    return f"chmod -R u+w {shell_path(folder)} && rm -r {shell_path(folder)}"


def _remake_command(settings: Settings, folder: Path) -> str:
    """Command of the run that makes an artifact again; its removal if no run is known."""
    name = f"sealed/{folder.name}"
    for record in read_records(settings.runs):
        if any(step["artifact"] == name for step in record["steps"]):
            return f"modelmill run {record['preset']}"
    return removal_command(folder)


def check_contents(settings: Settings, progress: Progress) -> Iterator[Finding]:
    """Read and compare all artifacts, DVC objects, and copies in the registry and in Bentos."""
    sealed = sorted(p.parent for p in (settings.store / "sealed").glob(f"*/{MANIFEST_FILE}"))
    objects = [path for place in object_places(settings) for path in list_objects(place)]
    copies = list(_list_copies(settings))
    bentos = [folder for folder, _ in list_bentos(settings)]
    total = disk_size([*sealed, *objects, *(copy for copy, _ in copies), *bentos])
    progress.start_count(float(total), "bytes")
    findings = chain(
        _compare_contents(settings, sealed, objects, copies, progress),
        find_damaged_bentos(settings, deep=True),
    )
    yield from or_report_ok(
        findings, "deep", f"{format_bytes(total)} read; every digest is as recorded"
    )


def _compare_contents(
    settings: Settings,
    sealed: list[Path],
    objects: list[Path],
    copies: list[tuple[Path, Path]],
    progress: Progress,
) -> Iterator[Finding]:
    for folder in sealed:
        manifest = _read_manifest(folder)
        odd = find_odd_entries(folder)
        if odd:
            yield report_broken(
                "deep",
                f"sealed/{folder.name[:12]}: links, or no plain files: {list_first(odd)}",
                f"{removal_command(folder)} && {_remake_command(settings, folder)}",
            )
        if manifest is not None and digest_folder(folder) != manifest["artifact"]["digest"]:
            stage = stage_name(manifest, manifest["artifact"]["lineage"]["component"])
            what = (
                f"sealed/{folder.name[:12]} ({stage}): its content has changed since it was sealed"
            )
            yield report_broken(
                "deep", what, f"{removal_command(folder)} && {_remake_command(settings, folder)}"
            )
        progress.advance(float(disk_size([folder])))
    for path in objects:
        if path.is_file() and digest_md5(path) != object_md5(path).removesuffix(".dir"):
            fix = f"rm -f {shell_path(path)} && modelmill doctor"  # which then names the run
            yield report_broken("deep", f"{shell_path(path)}: DVC's object is damaged", fix)
        progress.advance(float(disk_size([path])))
    for copy, original in copies:
        if digest_file(copy) != digest_file(original):
            fix = f"cp {shell_path(original)} {shell_path(copy)}"
            yield report_broken(
                "deep", f"{shell_path(copy)} differs from the bundle it came from", fix
            )
        progress.advance(float(disk_size([copy])))


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / MANIFEST_FILE).read_bytes())
        return manifest if manifest["artifact"]["digest"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # `check_sealed_folder` has reported it


def _list_copies(settings: Settings) -> Iterator[tuple[Path, Path]]:
    """(copy, original) of what the registry and the Bentos hold of bundles in the store."""
    bundles = {
        str(manifest["artifact"]["digest"]): path.parent
        for path in (settings.store / "sealed").glob(f"*/{MANIFEST_FILE}")
        if (manifest := _read_manifest(path.parent)) and manifest["format"] == "bundle/1"
    }
    bundle_folders = [
        (e.files_folder(settings), e.tags.get(BUNDLE_TAG, "")) for e in list_versions(settings)
    ]
    bundle_folders += [
        (folder / "src" / "bundle", bento.bundle)
        for folder, bento in list_bentos(settings)
        if bento
        and not (folder / "src" / FILE_LIST).is_file()  # else its own list of files is compared
    ]
    for folder, digest in bundle_folders:
        original = bundles.get(digest)
        if original is not None:
            for copy in sorted(path for pattern in _COPIED_FILES for path in folder.glob(pattern)):
                source = original / copy.relative_to(folder)
                if source.is_file() and copy.is_file():
                    yield copy, source


def check_leftovers(settings: Settings) -> Iterator[Finding]:
    """Check for stale stages, a killed purge, and trash of a collection; list held locks."""
    yield from or_report_ok(_find_leftovers(settings), "leftovers", "no stale stages, no trash")
    held = [path.name[:12] for path in (settings.store / "locks").glob("*") if is_locked(path)]
    if held:
        yield report_info("leftovers", f"running now: {list_first(held)}")


def _find_leftovers(settings: Settings) -> Iterator[Finding]:
    days = RetentionPolicy().days
    oldest = time.time() - days * DAY_SECONDS
    stale = [
        folder
        for folder in (settings.store / "partial").glob("*")
        if last_change_time(folder) < oldest
        and not is_locked(settings.store / "locks" / folder.name)
    ]
    if stale:
        names = list_first(path.name[:12] for path in stale)
        what = f"unfinished for more than {days:g} days: {names} ({format_bytes(disk_size(stale))})"
        yield report_warning("leftovers", what, "modelmill gc")
    try:
        purge = read_unfinished_purge(settings)
    except DataError as error:
        yield report_broken("leftovers", str(error), f"rm {shell_path(journal_path(settings))}")
    else:
        if purge is not None:
            again = f"modelmill forget {shlex.quote(purge.targets[0])} --purge"
            what = f"a purge of {list_first(purge.targets)} was killed before its end"
            yield report_warning("leftovers", what, again)
    trash = [
        path
        for trash_folder in list_trashes(settings.home)
        for path in trash_folder.list_contents()
    ]
    if trash:
        what = f"a collection was killed: {format_bytes(disk_size(trash))} of trash"
        yield report_warning("leftovers", what, "modelmill gc")


def check_audit(settings: Settings) -> Iterator[Finding]:
    """Check the chain of hashes of the audit log."""
    try:
        entries = audit_log.read_entries(settings)
    except DataError as error:
        yield report_broken("audit", str(error), _set_log_aside_command(settings))
    else:
        yield report_ok("audit", f"{len(entries)} entries, the chain holds")


def _set_log_aside_command(settings: Settings) -> str:
    """Command that keeps a broken log as evidence, for when no intact copy can be restored."""
    files = " ".join(
        shell_path(settings.home / name) for name in ("audit.jsonl", "audit.head.json")
    )
    folder = shell_path(settings.home / "audit-broken")
    return f"mkdir {folder} && mv {files} {folder}"
