"""The Bentos of the workspace, as folders: which one holds a version, which one is ``latest``.

BentoML's store is files: a folder a version below ``bentos/modelmill`` and a text file ``latest``
that names one. That file is what ``bentoml serve modelmill:latest`` goes by, and a promotion moves
it; building a Bento does not.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from components.core.settings import Settings
from components.core.workdir import write_durably
from components.publish.registry import BUNDLE_TAG, CHAMPION, Entry, entries

NAME = "modelmill"
LATEST = "latest"


@dataclass(frozen=True)
class Packed:
    """What a Bento says it holds."""

    folder: str
    """Its name below ``bentos_folder``."""
    model: str
    version: str
    bundle: str
    """Digest of the bundle."""


def bentos_folder(settings: Settings) -> Path:
    """Where BentoML's store keeps ours, a version a folder."""
    return settings.bentos / "bentos" / NAME


def read_packed(folder: Path) -> Packed | None:
    """What a Bento's ``endpoint.json`` tells; None where it is no Bento of ours or damaged."""
    try:
        told = json.loads((folder / "src" / "endpoint.json").read_bytes())
        return Packed(folder.name, str(told["model"]), str(told["version"]), str(told["bundle"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def all_packed(settings: Settings) -> list[tuple[Path, Packed | None]]:
    """Every Bento's folder, newest first, with what it says it holds."""
    folders = sorted(bentos_folder(settings).glob("*/"), key=lambda path: -path.stat().st_mtime)
    return [(folder, read_packed(folder)) for folder in folders]


def bento_of(settings: Settings, entry: Entry) -> str | None:
    """The newest Bento that holds a version's bundle."""
    wanted = (entry.model, entry.tags.get(BUNDLE_TAG))
    for folder, packed in all_packed(settings):
        if packed and (packed.model, packed.bundle) == wanted:
            return folder.name
    return None


def latest(settings: Settings) -> str | None:
    """The folder that the tag ``latest`` names; None where there is no tag."""
    try:
        return (bentos_folder(settings) / LATEST).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def champion_to_serve(settings: Settings, model: str | None = None) -> Entry | None:
    """The champion of ``model``, else of the model whose champion moved last; None without one.

    A promotion or rollback leaves ``latest`` at what it serves, so that names the model; one that
    moves a champion beside an endpoint which serves another model does not. Where the Bento is
    gone, or its model has no champion any more, the newest champion stands in.
    """
    champions = [entry for entry in entries(settings, model) if CHAMPION in entry.aliases]
    folder = latest(settings)
    packed = read_packed(bentos_folder(settings) / folder) if folder else None
    if packed is not None:
        champions.sort(key=lambda entry: entry.model != packed.model)  # stable: newest first
    return champions[0] if champions else None


def tag_latest(settings: Settings, folder: str | None) -> None:
    """Let ``latest`` name a folder, or nothing."""
    path = bentos_folder(settings) / LATEST
    if folder is None:
        path.unlink(missing_ok=True)
    elif latest(settings) != folder:
        write_durably(path, folder.encode())
