"""Detection of a full disk in any error, and its message."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from components.core.errors import MillError

FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""System error numbers of a full disk, an exhausted quota, a file beyond its limit."""


_FULL_WORDS = re.compile(r"No space left on device|Disk quota exceeded|database or disk is full")
"""Messages of SQLite and of libraries in other languages for the same condition."""


@contextmanager
def explain_full_disk(folder: Path | str) -> Iterator[None]:
    """Raise a full disk as one line that says what to do.

    Recognises the system's own error, SQLite's, and exceptions that libraries chain to them.
    """
    try:
        yield
    except MillError:
        raise
    except Exception as error:
        cause = _full_disk_of(error)
        if cause is None:
            raise
        raise full_disk_error(getattr(cause, "filename", None) or folder) from error


def full_disk_error(place: Path | str) -> MillError:
    """Error for a full disk."""
    return MillError(
        f"no space left while writing {place}: free some "
        "(`modelmill show` lists what is there), then run the same command; it goes on"
    )


def free_bytes(folder: Path) -> int:
    """Free bytes on the file system of a folder."""
    return shutil.disk_usage(folder).free


def _full_disk_of(error: BaseException) -> BaseException | None:
    """Error that reports a full disk, in a chain of exceptions."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, OSError) and link.errno is not None:
            if link.errno in FULL_DISK:
                return link
        elif _FULL_WORDS.search(str(link)):
            return link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return None
