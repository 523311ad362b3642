"""DVC versions of the selected corpus, without git, pushed to a remote.

The DVC repository is ``<home>/datasets``: a ``corpus-<digest>.dvc`` file and a folder (links into
DVC's cache) for every version. ``dvc pull corpus-….dvc`` there brings a version back.

Each call looks at the remote; without a difference nothing is done, and DVC is not even imported.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.config.env_references import resolve_references
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, TransientError, error_line
from components.core.io.atomic_write import publish_path, write_atomically
from components.core.io.locks import hold_lock
from components.core.io.trash import delete_path
from components.core.log import get_logger, mask_secrets
from components.core.store.artifact import MANIFEST_FILE, VOLATILE_FOLDER, Corpus, Dataset
from components.publish.dataset.dataset_pins import (
    config_path,
    index_folder,
    object_path,
    read_list_of_files,
    read_pin,
)

T = TypeVar("T")
log = get_logger(__name__)


class DatasetConfig(StageConfig):
    """Name and remote of a dataset."""

    name: str = Field(
        default="corpus",
        pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$",
        description="name of the dataset; a version is name-digest",
    )
    remote: str | None = Field(
        default=None,
        min_length=1,
        description="a folder or an address DVC knows (s3://, ssh://), in which ${NAME} is a "
        "variable of the environment; default: datasets/remote",
    )
    attempts: int = Field(
        default=6, ge=1, le=20, description="tries while another process holds DVC's lock"
    )


def dry_run_push(
    config: DatasetConfig, corpus: Corpus, workspace: Workspace
) -> Change[Dataset] | None:
    """Look for the version in a folder remote; None where a network would have to be asked.

    Args:
        config: names the dataset and its remote.
        corpus: would be pushed.
        workspace: holds DVC's repository.
    """
    if "://" in _remote(config, workspace.settings.datasets):
        return None
    return find_pushed(config, corpus, workspace)


@action(dry_run=dry_run_push)
def push_dataset(config: DatasetConfig, corpus: Corpus, workspace: Workspace) -> Change[Dataset]:
    """Add and push the corpus under its digest; unchanged where the remote holds it whole.

    Args:
        config: names the dataset and its remote.
        corpus: corpus that is pushed.
        workspace: holds DVC's repository.

    Raises:
        ConfigError: the remote is not one that DVC can use here.
        DataError: DVC refuses the data.
        TransientError: another process kept DVC's lock, or the remote did not answer.
    """
    root = workspace.settings.datasets
    source = workspace.artifact_folder(corpus)
    with datasets_lock(root):
        pushed = find_pushed(config, corpus, workspace)
        if not pushed.changed:
            return pushed
        version, remote = pushed.artifact.name, _remote(config, root)
        configure_dvc(root, remote)
        workspace.progress.start_count(None, "files")
        changed = retry_while_locked(
            config.attempts, lambda: _add_and_push(root, version, source, corpus, remote)
        )
    return Change(pushed.artifact, changed=changed, note=pushed.note)


def find_pushed(config: DatasetConfig, corpus: Corpus, workspace: Workspace) -> Change[Dataset]:
    """The version that belongs to a corpus; ``changed`` where a remote does not hold it whole.

    Args:
        config: names the dataset and its remote.
        corpus: the version is named by its digest.
        workspace: holds DVC's repository.
    """
    root = workspace.settings.datasets
    version, remote = f"{config.name}-{corpus.digest[:12]}", _remote(config, root)
    sizes = _sizes(workspace.artifact_folder(corpus))
    dataset = Dataset(
        name=version,
        digest=corpus.digest,
        lineage=workspace.action_lineage(push_dataset, {"corpus": corpus}),
        stats={
            "files": float(len(sizes)),
            "bytes": float(sum(sizes.values())),
            "documents": corpus.stats.get("kept", corpus.stats.get("conversations", 0.0)),
        },
    )
    changed = not _holds(root, version, remote, sizes)
    where = (
        mask_secrets(config.remote) if config.remote else f"{root.name}/remote"
    )  # of the workspace
    return Change(dataset, changed=changed, note=f"{version} in {where}")


def _remote(config: DatasetConfig, root: Path) -> str:
    return resolve_references(config.remote) if config.remote else str(root / "remote")


def _sizes(source: Path) -> dict[str, int]:
    """Relative name -> bytes of what belongs to the corpus's digest."""
    files = sorted(path for path in source.rglob("*") if path.is_file())
    names = {path: path.relative_to(source) for path in files}
    return {
        name.as_posix(): path.stat().st_size
        for path, name in names.items()
        if name != Path(MANIFEST_FILE) and name.parts[0] != VOLATILE_FOLDER
    }


def _holds(root: Path, version: str, remote: str, sizes: dict[str, int]) -> bool:
    """True where a folder remote holds every file of the version, by DVC's own layout."""
    if "://" in remote:
        return False
    listing = read_list_of_files(remote, read_pin(root / f"{version}.dvc").md5)
    try:
        stored = {n: object_path(remote, md5).stat().st_size for n, md5 in (listing or {}).items()}
    except OSError:
        return False
    return listing is not None and stored == sizes


def _clear_broken(root: Path, pin: Path, remote: str, sizes: dict[str, int]) -> None:
    """Delete a version's listing and half files from a folder remote that is not whole.

    DVC takes a listing in the remote as proof that its files are there, and whole.
    """
    if "://" in remote:
        return
    md5 = read_pin(pin).md5
    for name, of_file in (read_list_of_files(root / ".dvc" / "cache", md5) or {}).items():
        stored = object_path(remote, of_file)
        if stored.is_file() and stored.stat().st_size != sizes[name]:
            stored.unlink()
    object_path(remote, md5).unlink(missing_ok=True)


def _quoted(value: str) -> str:
    """A value of DVC's configuration, which knows quotes and no escapes."""
    for quote in ('"', "'"):
        if quote not in value and "\n" not in value:
            return f"{quote}{value}{quote}"
    raise ConfigError(f"dataset: {value!r} holds quotes that DVC cannot be told; rename the folder")


def configure_dvc(root: Path, remote: str) -> None:
    """A repository without git whose caches, index and remote all lie in the workspace."""
    wanted = (
        "[core]\n"
        "    no_scm = True\n"
        "    analytics = False\n"
        "    check_update = False\n"
        f"    site_cache_dir = {_quoted(str(index_folder(root)))}\n"
        "    remote = store\n"
        "[cache]\n"
        '    type = "reflink,hardlink,copy"\n'
        "['remote \"store\"']\n"
        f"    url = {_quoted(remote)}\n"
    ).encode()
    config = config_path(root)
    if not config.is_file() or config.read_bytes() != wanted:
        config.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(config, wanted)
    (root / ".dvcignore").touch()


def _add_and_push(root: Path, version: str, source: Path, corpus: Corpus, remote: str) -> bool:
    """Bring cache and remote up to date; True where there was anything to do.

    DVC's status calls a version in step that cache and remote both lost, so nothing is asked:
    adding again restores the cache, and the push transfers what the remote lacks.
    """
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.CRITICAL)  # also keeps its progress bars away
    delete_path(index_folder(root))  # it must look at the remote again
    pin, sizes = root / f"{version}.dvc", _sizes(source)
    known = pin.is_file()
    with Repo(str(root)) as repo:
        _copy(source, root / version, sizes)
        repo.add(str(root / version))
        _clear_broken(root, pin, remote, sizes)
        _describe(pin, corpus)
        pushed = int(repo.push(targets=[str(pin)]))
    return pushed > 0 or not known


def _copy(source: Path, target: Path, sizes: dict[str, int]) -> None:
    """A fresh, writable copy of the corpus; DVC then moves it to its cache and links back."""
    beside = target.with_name(f".{target.name}.tmp")
    for old in (beside, target):
        delete_path(old)
    for name in sizes:
        (beside / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, beside / name)
    publish_path(beside, target)


def _describe(pin: Path, corpus: Corpus) -> None:
    """Write into the pin which corpus it is."""
    content = yaml.safe_load(pin.read_text())
    content["meta"] = {"corpus": corpus.digest, "component": corpus.lineage.component}
    write_atomically(pin, yaml.safe_dump(content, sort_keys=False).encode())


def retry_while_locked(attempts: int, work: Callable[[], T]) -> T:
    """Run ``work`` again while another process holds DVC's lock: DVC fails instead of waiting."""
    from dvc.config import ConfigError as DvcConfigError
    from dvc.config import RemoteConfigError
    from dvc.exceptions import DvcException, UploadError
    from dvc.lock import LockError

    for attempt in range(attempts):
        try:
            return work()
        except LockError:
            log.info("dataset: DVC's lock is held; waiting")
            time.sleep(min(5.0, 0.2 * 2**attempt))
        except (DvcConfigError, RemoteConfigError) as error:
            raise ConfigError(f"dataset.remote: {error_line(error)[:300]}") from error
        except UploadError as error:
            raise TransientError(f"dataset: the push failed: {error_line(error)[:300]}") from error
        except DvcException as error:
            raise DataError(f"dataset: DVC: {error_line(error)[:300]}") from error
    raise TransientError("dataset: another process holds DVC's lock in the workspace's datasets")


def datasets_lock(root: Path) -> AbstractContextManager[None]:
    """One push at a time in this workspace; the lock goes with the process."""
    return hold_lock(root / ".lock")
