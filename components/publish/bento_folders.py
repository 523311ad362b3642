"""Bentos of the workspace as folders: contents, damage and the tag ``latest``.

BentoML's store is files: a folder a version below ``bentos/modelmill`` and a text file ``latest``
that names one. That file is what ``bentoml serve modelmill:latest`` goes by, and a promotion moves
it; building a Bento does not.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import digest_file
from components.core.store.gc_plan import FileSystem, GcPlan
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    RegisteredVersion,
    list_versions,
)

BENTO_NAME = "modelmill"
LATEST_FILE = "latest"
PLACE = "bentos"
"""The Bentos in plans of deletion."""
SMOKE_FOLDER = "smoke"
"""Reports of smoke tests, a folder a Bento; their logs begin with its name."""
FILE_LIST = "files.json"
"""name -> [bytes, sha256] of what was packed, beside it; Bentos of old have none."""


@dataclass(frozen=True)
class BentoContents:
    """Contents of a Bento by its own ``endpoint.json``."""

    folder: str
    """Its name below ``bentos_folder``."""
    model: str
    version: str
    bundle: str
    """Digest of the bundle."""


def bentos_folder(settings: Settings) -> Path:
    """Folder of BentoML's store that holds our Bentos, a version a folder."""
    return settings.bentos / "bentos" / BENTO_NAME


def read_bento(folder: Path) -> BentoContents | None:
    """Read a Bento's ``endpoint.json``; None where it is no Bento of ours or damaged."""
    try:
        content = json.loads((folder / "src" / "endpoint.json").read_bytes())
        return BentoContents(
            folder.name, str(content["model"]), str(content["version"]), str(content["bundle"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def list_bentos(settings: Settings) -> list[tuple[Path, BentoContents | None]]:
    """Every Bento's folder, newest first, with its contents (None: damaged)."""
    folders = sorted(bentos_folder(settings).glob("*/"), key=lambda path: -path.stat().st_mtime)
    return [(folder, read_bento(folder)) for folder in folders]


def list_packed(settings: Settings) -> list[BentoContents]:
    """Contents of the Bentos that are whole, by name."""
    contents = (packed for _, packed in list_bentos(settings) if packed)
    return sorted(contents, key=lambda packed: packed.folder)


def plan_bento_purge(settings: Settings, names: Iterable[str]) -> GcPlan:
    """Plan to delete Bentos with what they left, and what a killed build left.

    Args:
        settings: workspace of the Bentos.
        names: their folders' names.
    """
    plan = GcPlan(PLACE, settings.bentos)
    for name in names:
        paths = [bentos_folder(settings) / name, settings.bentos / SMOKE_FOLDER / name]
        plan.add_deletion(f"{PLACE}/{name}", "to be forgotten", paths)
    if (partial := settings.bentos / "partial").exists():
        plan.add_deletion(f"{PLACE}/partial", "left by a build that was killed", [partial])
    return plan


class BentoDeletion(FileSystem):
    """Bentos, and the tag ``latest``, which names none that is gone."""

    @override
    def delete(self, settings: Settings, plan: GcPlan) -> None:
        super().delete(settings, plan)
        latest = read_latest(settings)
        if latest is not None and not (bentos_folder(settings) / latest).is_dir():
            tag_latest(settings, None)


def write_file_list(source: Path) -> None:
    """Write down what a folder that is to be packed holds, for ``damaged_files``."""
    files = {
        path.relative_to(source).as_posix(): [path.stat().st_size, digest_file(path)]
        for path in sorted(source.rglob("*"))
        if path.is_file()
    }
    (source / FILE_LIST).write_text(json.dumps(files, indent=1))


def damaged_files(folder: Path, *, deep: bool = False) -> list[str]:
    """Faults of a Bento's files, a phrase each; empty where it is whole.

    Args:
        folder: the Bento's own, with ``src`` in it.
        deep: also read every file, and not only its size.
    """
    source = folder / "src"
    try:
        listed = json.loads((source / FILE_LIST).read_bytes())
        files = {name: (int(size), str(digest)) for name, (size, digest) in listed.items()}
    except FileNotFoundError:
        return [f"{name} is gone" for name in _loaded(source) if not (source / name).is_file()]
    except (OSError, ValueError, TypeError, AttributeError):
        return [f"{FILE_LIST} cannot be read"]
    damaged = []
    for name, (size, digest) in files.items():
        path = source / name
        if not path.is_file():
            damaged.append(f"{name} is gone")
        elif (now := path.stat().st_size) != size:
            damaged.append(f"{name} has {now:,} bytes in place of {size:,}")
        elif deep and digest_file(path) != digest:
            damaged.append(f"{name} has another content than was packed")
    return damaged


def _loaded(source: Path) -> list[str]:
    """Files that a server loads of a Bento without a list of its files."""
    try:
        form = str(json.loads((source / "endpoint.json").read_bytes())["form"])
    except (OSError, ValueError, KeyError, TypeError):
        return []  # ``read_bento`` tells of it
    return [f"bundle/{form}/model.onnx", "bundle/tokenizer.json"]


def check_bento_files(folder: Path) -> None:
    """See that every file of a Bento is there, of the size it was packed with.

    Raises:
        DataError: one is not; names it and the way on.
    """
    if damaged := damaged_files(folder):
        more = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        raise DataError(
            f"the Bento {BENTO_NAME}:{folder.name} is damaged: {damaged[0]}{more}; run the "
            "preset or file that made it again, which packs it anew"
        )


def find_newest_bento(settings: Settings, entry: RegisteredVersion) -> str | None:
    """The newest Bento that holds a version's bundle."""
    wanted = (entry.model, entry.tags.get(BUNDLE_TAG))
    for folder, packed in list_bentos(settings):
        if packed and (packed.model, packed.bundle) == wanted:
            return folder.name
    return None


def read_latest(settings: Settings) -> str | None:
    """The folder that the tag ``latest`` names; None where there is no tag."""
    try:
        return (bentos_folder(settings) / LATEST_FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def choose_champion(settings: Settings, model: str | None = None) -> RegisteredVersion | None:
    """The champion of ``model``, else of the model whose champion moved last; None without one.

    A promotion or rollback leaves ``latest`` at what it serves, so that names the model; one that
    moves a champion beside an endpoint which serves another model does not. Where the Bento is
    gone, or its model has no champion any more, the newest champion stands in.
    """
    champions = [entry for entry in list_versions(settings, model) if CHAMPION in entry.aliases]
    folder = read_latest(settings)
    packed = read_bento(bentos_folder(settings) / folder) if folder else None
    if packed is not None:
        champions.sort(key=lambda entry: entry.model != packed.model)  # stable: newest first
    return champions[0] if champions else None


def tag_latest(settings: Settings, folder: str | None) -> None:
    """Let ``latest`` name a folder, or nothing."""
    path = bentos_folder(settings) / LATEST_FILE
    if folder is None:
        path.unlink(missing_ok=True)
    elif read_latest(settings) != folder:
        write_atomically(path, folder.encode())
