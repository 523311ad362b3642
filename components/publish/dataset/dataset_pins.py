"""DVC's files in the workspace: pins, lists of files, objects. No other module knows their layout.

A pin is ``corpus-<digest>.dvc``; it names a list of files, and cache and remotes hold the list and
the files by their md5.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from components.core.settings import Settings

_UNPACKED = ".unpacked"
"""Suffix of what DVC of old unpacked of a list, beside it."""


@dataclass(frozen=True)
class DatasetPin:
    """One ``.dvc`` file: a version of a dataset."""

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
    return [read_pin(path) for path in sorted(settings.datasets.glob("*.dvc")) if path.is_file()]


def read_pin(path: Path) -> DatasetPin:
    """Read a pin, see ``read_pins``."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        corpus = (content.get("meta") or {}).get("corpus", "")
        return DatasetPin(path, str(corpus), str(content["outs"][0]["md5"]))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError, yaml.YAMLError):
        return DatasetPin(path, "", "")


def read_listing(
    settings: Settings, pin: DatasetPin, remotes: Iterable[str] = ()
) -> dict[str, str] | None:
    """Relative name -> md5 of a pin's files; None where no place has the list.

    Args:
        settings: workspace whose cache and own remote are asked first.
        pin: names the list.
        remotes: other places to ask; an address is passed over.
    """
    for place in (*object_places(settings), *(Path(r) for r in remotes if "://" not in r)):
        listing = read_list_of_files(place, pin.md5)
        if listing is not None:
            return listing
    return None


def read_list_of_files(place: str | Path, md5: str) -> dict[str, str] | None:
    """Relative name -> md5 of the files in a list; None where this place does not hold it."""
    try:
        content = json.loads(object_path(place, md5).read_bytes())
        return {str(entry["relpath"]): str(entry["md5"]) for entry in content}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def object_places(settings: Settings) -> tuple[Path, Path]:
    """The workspace's own places of objects: DVC's cache and the remote."""
    root = settings.datasets
    return root / ".dvc" / "cache", root / "remote"


def object_path(place: str | Path, md5: str) -> Path:
    """Path of a file in DVC's layout, the same in its cache and in a folder remote."""
    return Path(place) / "files" / "md5" / md5[:2] / md5[2:]


def list_objects(place: Path) -> list[Path]:
    """Paths of all objects in a place."""
    return sorted(path for path in (place / "files" / "md5").glob("*/*") if path.is_file())


def object_md5(path: Path) -> str:
    """DVC's name of an object, by its path."""
    return (path.parent.name + path.name).removesuffix(_UNPACKED)


def find_objects(places: Iterable[str | Path], md5s: Collection[str]) -> list[Path]:
    """Paths of those of these objects that the places hold."""
    paths = (
        object_path(place, md5 + suffix)
        for place in places
        for md5 in md5s
        for suffix in ("", _UNPACKED)
    )
    return [path for path in paths if path.is_file()]


def digest_md5(path: Path) -> str:
    """Md5 of a file, by which DVC names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def pin_path(settings: Settings, version: str) -> Path:
    """Path of a version's pin."""
    return settings.datasets / f"{version}.dvc"


def config_path(root: Path) -> Path:
    """DVC's own configuration."""
    return root / ".dvc" / "config"


def index_folder(root: Path) -> Path:
    """Folder of DVC's own index, of the remote too."""
    return root / ".dvc" / "site"


def version_folders(settings: Settings, version: str) -> tuple[Path, Path]:
    """Folders of a version: its links into the cache, and what a killed push left of them."""
    return settings.datasets / version, settings.datasets / f".{version}.tmp"
