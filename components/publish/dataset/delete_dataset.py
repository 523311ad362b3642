"""Deletion of dataset versions: pins, workspace links, DVC's cache and remotes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from typing_extensions import override

from components.core.errors import DataError, error_line
from components.core.io.trash import delete_path
from components.core.log import mask_secrets
from components.core.settings import Settings
from components.core.store.gc_plan import DeletionSystem, GcPlan, discard_paths, left_paths
from components.publish.dataset.dataset_gc import PLACE
from components.publish.dataset.dataset_pins import (
    config_path,
    digest_md5,
    find_objects,
    index_folder,
    object_places,
    pin_path,
    read_listing,
    read_pin,
    read_pins,
    version_folders,
)
from components.publish.dataset.push_dataset import configure_dvc


def plan_dataset_purge(
    settings: Settings, versions: Collection[str], remotes: Collection[str]
) -> GcPlan:
    """Plan to delete dataset versions from the workspace and from every remote.

    Args:
        settings: workspace whose versions they are.
        versions: names: ``corpus-0123456789ab``.
        remotes: folders or addresses that the versions may have been pushed to.
    """
    plan = GcPlan(PLACE, settings.datasets)
    for version in versions:
        objects = find_unshared_objects(settings, version, remotes)
        paths = [pin_path(settings, version), *version_folders(settings, version)]
        paths += find_objects(object_places(settings), objects)
        facts = {"objects": objects, "remotes": list(remotes)}
        plan.add_deletion(version, "to be forgotten", paths, kind="dataset", facts=facts)
    return plan


def find_unshared_objects(settings: Settings, name: str, remotes: Collection[str]) -> list[str]:
    """DVC's names of all files of a dataset version that no other version shares.

    Args:
        settings: workspace whose dataset versions are compared.
        name: name of the version: ``corpus-0123456789ab``.
        remotes: folders or addresses that may hold the list of files.
    """
    others: set[str] = set()
    for pin in read_pins(settings):
        if pin.version != name:
            others |= _objects(settings, pin.version, remotes)
    return sorted(_objects(settings, name, remotes) - others)


def _objects(settings: Settings, version: str, remotes: Collection[str]) -> set[str]:
    """Md5 of a version's list and files, by the list, and by the files where that is gone."""
    pin = read_pin(pin_path(settings, version))
    folder = version_folders(settings, version)[0]
    md5s = {digest_md5(path) for path in folder.rglob("*") if path.is_file()}
    listing = read_listing(settings, pin, remotes) if pin.md5 else None
    return {*md5s, *(listing or {}).values(), *([pin.md5] if pin.md5 else [])}


class DatasetDeletion(DeletionSystem):
    """The workspace's repository of DVC, and the remotes that a deletion names."""

    @override
    def delete(self, settings: Settings, plan: GcPlan) -> None:
        """Delete what ``plan`` names; the pins go first of what lies in the workspace.

        Killed after that, the next collection finds objects that nobody names.

        Raises:
            DataError: a remote that is no folder could not be reached or refused.
        """
        for deletion in plan.deletions:
            for remote in deletion.facts.get("remotes", ()):
                _delete_from_remote(settings, remote, deletion.facts["objects"])
        discard_paths(plan)
        if plan.deletions:
            delete_path(index_folder(settings.datasets))  # DVC must look at the remote again

    @override
    def find_left(self, settings: Settings, plan: GcPlan) -> list[str]:
        """Paths that are still there; a remote that is no folder is not asked again."""
        left = left_paths(plan)
        for deletion in plan.deletions:
            folders = [r for r in deletion.facts.get("remotes", ()) if "://" not in r]
            left += map(str, find_objects(folders, deletion.facts.get("objects", ())))
        return left


def _delete_from_remote(settings: Settings, remote: str, objects: Collection[str]) -> None:
    if "://" in remote:
        _delete_through_dvc(settings, remote, objects)
        return
    for path in find_objects([remote], objects):
        delete_path(path)


def _delete_through_dvc(settings: Settings, remote: str, objects: Collection[str]) -> None:
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)
    configure_dvc(settings.datasets, remote)
    try:
        with Repo(str(settings.datasets)) as repo:
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
    own = str(object_places(settings)[1])
    path = config_path(settings.datasets)
    if not path.is_file():
        return [own]
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    quoted = next((line.partition("=")[2].strip() for line in lines if line.startswith("url")), "")
    last = quoted.strip("\"'")
    another = "://" not in last and config_path(Path(last).parent).is_file()
    return [own] if not last or another else [own, last]
