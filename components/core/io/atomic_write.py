"""Atomic, durable replacement of a file: write beside it, ``fsync``, rename, ``fsync`` the folder.

Whoever opens the path finds the old content or the new one, never half, also after a power cut.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def atomic_path(path: Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Temporary path beside ``path`` that replaces it when the block ends without an error.

    For libraries that write to a path themselves; the file must be closed when the block ends.

    Args:
        path: the file to replace.
        suffix: appended to its name. The default is the same at each try, so that what a killed
            one left is overwritten; processes that may write at once need a suffix each.
    """
    temporary = path.with_name(path.name + suffix)
    try:
        yield temporary
        sync_path(temporary)
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_path(path.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file's content atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def publish_path(source: Path, target: Path) -> None:
    """Rename a whole file or folder to its place, durably: it is there with all its content or not.

    Args:
        source: on the same file system; its content is synced already where that matters.
        target: a file there is replaced; a folder there must be empty.

    Raises:
        OSError: ``target`` is a folder that is not empty.
    """
    source.rename(target)
    sync_path(target.parent)


def sync_path(path: Path) -> None:
    """Flush a file, or the entries of a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
