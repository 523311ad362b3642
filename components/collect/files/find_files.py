"""Search for the user's files: their names, their digests, and what is set aside.

A file is named by the last fixed folder of its glob and the path below it, percent-encoded, so no
path of the machine gets into a document, the same folder elsewhere gives the same names, and no two
files share one (``C#.md``, ``50%.md`` and names that are no text included).
"""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote_from_bytes

from components.collect.files.file_kinds import READABLE_KINDS, kind_of_file
from components.collect.files.walk_folders import WalkedFile, walk_pattern
from components.core.errors import ConfigError
from components.core.store.artifact import digest_file

SET_ASIDE_MARK = "set aside: "
"""Start of the reason that stands in a file's digest's place."""


class GlobError(ConfigError):
    """Glob that gives no pages; ``index`` is its position in ``scrape.files``."""

    def __init__(self, index: int, pattern: str, problem: str) -> None:
        self.index, self.problem = index, f"given {pattern!r}: {problem}"
        super().__init__(f"scrape.files.{index}: {self.problem}")


@dataclass
class FoundFiles:
    """Files of all globs, in the order of globs and of names in each."""

    paths: dict[str, Path] = field(default_factory=dict)
    """Files to read, by name."""
    set_aside: dict[str, str] = field(default_factory=dict)
    """Reasons for which matching files are not read, by name."""

    def digest_contents(self) -> dict[str, str]:
        """SHA-256 of each file, or the reason for which it is not read, sorted by name."""
        digests = {name: f"{SET_ASIDE_MARK}{reason}" for name, reason in self.set_aside.items()}
        for name, path in self.paths.items():
            try:
                digests[name] = digest_file(path)
            except OSError as error:
                digests[name] = f"{SET_ASIDE_MARK}cannot be read: {error.strerror}"
        return dict(sorted(digests.items()))


def find_files(globs: Sequence[str], folder: str = "") -> FoundFiles:
    """Find matching files; relative globs start from ``folder``, and a folder means all below it.

    Raises:
        GlobError: a glob matches nothing that can be read, or two files share a name.
    """
    found = FoundFiles()
    names_by_file: dict[str, str] = {}
    for index, pattern in enumerate(globs):
        base, parts = _split_glob(pattern, folder)
        is_literal = len(parts) == 1 and (base / parts[0]).is_file()
        walked = [WalkedFile(base / parts[0])] if is_literal else walk_pattern(base, parts)
        if not any(not file.reason for file in walked):
            raise GlobError(index, pattern, _explain_empty(base, walked))
        known = [file for file in walked if not file.reason and kind_of_file(file.path.name)]
        if not known:
            first = next(file for file in walked if not file.reason)
            problem = f"{first.path.name}: its kind is not known; {READABLE_KINDS}"
            raise GlobError(index, pattern, problem)
        before = len(found.paths)
        for file in sorted(walked, key=lambda file: file.is_linked):  # a file's own name first
            if not file.reason and kind_of_file(file.path.name) is None:
                file = WalkedFile(file.path, "its kind is not known")
            _add_file(found, names_by_file, file, _name_file(base, file.path), (index, pattern))
        added = list(found.paths.items())[before:]
        for name, path in sorted(added, key=lambda item: os.fsencode(item[1])):
            del found.paths[name]
            found.paths[name] = path
    return found


def digest_files(globs: Sequence[str], folder: str = "") -> dict[str, str]:
    """Digest every matching file: SHA-256 by name, or the reason for which it is not read."""
    return find_files(globs, folder).digest_contents()


def _add_file(
    found: FoundFiles,
    names_by_file: dict[str, str],
    file: WalkedFile,
    name: str,
    place: tuple[int, str],
) -> None:
    """Add a file under its name, or the reason for which it is not read.

    Raises:
        GlobError: another file has this name.
    """
    if file.reason:
        if name not in found.paths:
            found.set_aside.setdefault(name, file.reason)
        return
    real = os.path.realpath(file.path)
    if name in found.paths:
        if os.path.realpath(found.paths[name]) != real:
            problem = f"two files would both be called {name!r}: give their common folder"
            raise GlobError(*place, f"{problem} in one glob")
        return
    first_name = names_by_file.setdefault(real, name)
    if first_name != name:
        found.set_aside[name] = f"the same file as {first_name}"
    else:
        found.paths[name] = file.path
        found.set_aside.pop(name, None)


def _name_file(base: Path, path: Path) -> str:
    relative = os.fsencode(path.relative_to(base))
    return f"{quote_from_bytes(os.fsencode(base.name))}/{quote_from_bytes(relative)}"


def _explain_empty(base: Path, walked: Sequence[WalkedFile]) -> str:
    if not base.is_dir():
        return f"matches no file; there is no folder {base}"
    if walked:
        return f"matches nothing that can be read: {walked[0].path.name} is {walked[0].reason}"
    return f"matches no file; looked in {base}"


def _split_glob(pattern: str, folder: str) -> tuple[Path, tuple[str, ...]]:
    """Split a glob into the deepest absolute folder without a wildcard, and the rest.

    A name that exists as it is written is no wildcard, whatever characters it holds.
    """
    glob_parts = Path(os.path.expanduser(pattern)).parts  # noqa: PTH111 - "~$a" is no user
    base_parts = Path(folder).resolve().parts if not Path(*glob_parts).is_absolute() else ()
    parts = (*base_parts, *glob_parts)
    whole = Path(*parts)
    if whole.is_dir():
        return whole.resolve(), ("**", "*")
    fixed = len(base_parts)
    while fixed < len(parts) - 1 and (
        not glob.has_magic(parts[fixed]) or Path(*parts[: fixed + 1]).is_dir()
    ):
        fixed += 1
    return Path(*parts[:fixed]).resolve(), parts[fixed:]
