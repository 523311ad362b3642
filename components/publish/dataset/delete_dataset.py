"""Deletion of a dataset version for good: workspace, DVC's cache and every remote.

It is idempotent: what an interrupted call left is deleted by the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from components.core.errors import DataError, error_line
from components.core.io.locks import hold_lock
from components.core.io.trash import delete_path
from components.core.log import mask_secrets
from components.core.settings import Settings
from components.publish.dataset.push_dataset import configure_dvc, object_path


def find_unshared_objects(settings: Settings, name: str, remotes: Collection[str]) -> list[str]:
    """DVC's names of all files of a dataset version that no other version shares.

    The list of files comes last, so that an interrupted deletion can be told from a finished one.

    Args:
        settings: workspace whose dataset versions are compared.
        name: name of the version: ``corpus-0123456789ab``.
        remotes: folders or addresses that may hold the list of files.
    """
    root = settings.datasets
    mine, listing = _objects(root, name, remotes)
    others: set[str] = set()
    for pin in root.glob("*.dvc"):
        if pin.is_file() and pin.stem != name:
            shared, theirs = _objects(root, pin.stem, remotes)
            others |= {*shared, theirs}
    return [*sorted(mine - others), *([listing] if listing and listing not in others else [])]


def _objects(root: Path, name: str, remotes: Collection[str]) -> tuple[set[str], str]:
    """(md5 of each file, md5 of the list), by DVC's list, and by the files where that is gone."""
    md5s = {_md5(path) for path in (root / name).rglob("*") if path.is_file()}
    try:
        pin = yaml.safe_load((root / f"{name}.dvc").read_text(encoding="utf-8"))
        listing = str(pin["outs"][0]["md5"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return md5s, ""
    for place in (root / ".dvc" / "cache", *(Path(r) for r in remotes if "://" not in r)):
        try:
            entries = json.loads(object_path(place, listing).read_bytes())
        except (OSError, ValueError):
            continue
        md5s |= {str(entry["md5"]) for entry in entries}
    return md5s, listing


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def delete_dataset_version(
    settings: Settings, name: str, objects: Collection[str], remotes: Collection[str]
) -> None:
    """Delete a dataset version from the workspace, DVC's cache and every remote.

    Args:
        settings: workspace whose DVC repository holds the version.
        name: name of the version: ``corpus-0123456789ab``.
        objects: as ``find_unshared_objects`` gives them.
        remotes: folders or addresses.

    Raises:
        DataError: a remote that is no folder could not be reached or refused.
    """
    root = settings.datasets
    with hold_lock(root / ".lock"):
        for remote in remotes:
            if "://" in remote:
                _delete_through_dvc(root, remote, objects)
            else:
                _delete_objects(Path(remote), objects)
        _delete_objects(root / ".dvc" / "cache", objects)
        for folder in (root / name, root / f".{name}.tmp", root / ".dvc" / "site"):
            delete_path(folder)
        (root / f"{name}.dvc").unlink(missing_ok=True)


def _delete_objects(place: Path, objects: Collection[str]) -> None:
    for path in _present(place, objects):
        path.unlink(missing_ok=True)


def _present(place: Path, objects: Collection[str]) -> Iterator[Path]:
    """Paths of objects that exist, and of the unpacked lists that DVC keeps beside them."""
    for md5 in objects:
        for path in (object_path(place, md5), object_path(place, md5 + ".unpacked")):
            if path.is_file():
                yield path


def _delete_through_dvc(root: Path, remote: str, objects: Collection[str]) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    configure_dvc(root, remote)
    try:
        with Repo(str(root)) as repo:
            storage = repo.cloud.get_remote_odb("store")
            for md5 in objects:
                path = storage.oid_to_path(md5)
                if storage.fs.exists(path):
                    storage.fs.remove(path)
    except (DvcException, OSError) as error:
        reason = error_line(error)[:300]
        raise DataError(f"the dataset's remote {mask_secrets(remote)}: {reason}") from error


def list_remotes(settings: Settings) -> list[str]:
    """Remotes that this workspace pushed datasets to: its own, and the one of the last push.

    A workspace that was copied still names the remote inside the one it was copied from; that is
    not its own to delete from.
    """
    own = str(settings.datasets / "remote")
    path = settings.datasets / ".dvc" / "config"
    if not path.is_file():
        return [own]
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    quoted = next((line.partition("=")[2].strip() for line in lines if line.startswith("url")), "")
    last = quoted.strip("\"'")
    another = "://" not in last and (Path(last).parent / ".dvc").is_dir()
    return [own] if not last or another else [own, last]
