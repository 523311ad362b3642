"""Takes versions of models and datasets away whole, with every file they hold, for good.

Both are idempotent: what an interrupted call left is taken away by the next.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import yaml

from components.core.errors import DataError
from components.core.io.locks import hold_lock
from components.core.log import mask
from components.core.settings import Settings
from components.core.tracking import connect
from components.publish.dataset.push_dataset import configure, stored
from components.publish.registry.model_registry import (
    FORGOTTEN_TAG,
    Entry,
    forgotten_orders,
    registry_lock,
)


def mark_forgotten(settings: Settings, entries: Collection[Entry], note: str) -> None:
    """Tag versions that were made of what is to be forgotten."""
    missing = [entry for entry in entries if note not in forgotten_orders(entry)]
    if not missing:
        return
    with registry_lock(settings):
        client = connect(settings)
        for entry in missing:
            told = ", ".join([*forgotten_orders(entry), note])
            client.set_model_version_tag(entry.model, str(entry.version), FORGOTTEN_TAG, told)


def withdraw_version(settings: Settings, model: str, version: int, source: str) -> None:
    """Delete a version with its aliases, its logged model, its run and its files."""
    from mlflow.exceptions import MlflowException

    logged = source.removeprefix("models:/")
    with registry_lock(settings):
        client = connect(settings)
        try:
            run = client.get_model_version(model, str(version)).run_id
            for alias in client.get_model_version(model, str(version)).aliases:
                client.delete_registered_model_alias(model, alias)
            client.delete_model_version(model, str(version))
            if run:
                client.delete_run(run)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        try:
            client.delete_logged_model(logged)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
        folder = settings.mlflow / "artifacts" / "models" / logged
        if logged and folder.is_dir():
            shutil.rmtree(folder)


def dataset_objects(settings: Settings, name: str, remotes: Collection[str]) -> list[str]:
    """DVC's names of all files of a dataset version that no other version shares.

    The list of files comes last, so that an interrupted deletion can be told from a finished one.
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
    found = {_md5(path) for path in (root / name).rglob("*") if path.is_file()}
    try:
        pin = yaml.safe_load((root / f"{name}.dvc").read_text(encoding="utf-8"))
        listing = str(pin["outs"][0]["md5"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, yaml.YAMLError):
        return found, ""
    for place in (root / ".dvc" / "cache", *(Path(r) for r in remotes if "://" not in r)):
        try:
            entries = json.loads(stored(place, listing).read_bytes())
        except (OSError, ValueError):
            continue
        found |= {str(entry["md5"]) for entry in entries}
    return found, listing


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def withdraw_dataset(
    settings: Settings, name: str, objects: Collection[str], remotes: Collection[str]
) -> None:
    """Delete a dataset version from the workspace, DVC's cache and every remote.

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
            if folder.exists():
                shutil.rmtree(folder)
        (root / f"{name}.dvc").unlink(missing_ok=True)


def _delete_objects(place: Path, objects: Collection[str]) -> None:
    for path in _present(place, objects):
        path.unlink(missing_ok=True)


def _present(place: Path, objects: Collection[str]) -> Iterator[Path]:
    """An object, and the unpacked list that DVC keeps beside one."""
    for md5 in objects:
        for path in (stored(place, md5), stored(place, md5 + ".unpacked")):
            if path.is_file():
                yield path


def _delete_through_dvc(root: Path, remote: str, objects: Collection[str]) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    configure(root, remote)
    try:
        with Repo(str(root)) as repo:
            storage = repo.cloud.get_remote_odb("store")
            for md5 in objects:
                path = storage.oid_to_path(md5)
                if storage.fs.exists(path):
                    storage.fs.remove(path)
    except (DvcException, OSError) as error:
        told = mask(" ".join(str(error).split()))[:300]
        raise DataError(f"the dataset's remote {mask(remote)}: {told}") from error


def known_remotes(settings: Settings) -> list[str]:
    """Remotes that this workspace pushed datasets to: its own, and where the last push went.

    A workspace that was copied still names the remote inside the one it was copied from; that is
    not its own to delete from.
    """
    own = str(settings.datasets / "remote")
    path = settings.datasets / ".dvc" / "config"
    if not path.is_file():
        return [own]
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    given = next((line.partition("=")[2].strip() for line in lines if line.startswith("url")), "")
    last = given.strip("\"'")
    another = "://" not in last and (Path(last).parent / ".dvc").is_dir()
    return [own] if not last or another else [own, last]
