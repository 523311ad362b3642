"""Walk over the folders that a glob leads into; ``*``, ``?``, ``[…]`` and ``**`` as in a shell.

Links to files and folders are followed, and each folder is entered once, so a loop of links ends.
Hidden files are not meant by a wildcard. Whatever was matched and is not read is reported.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "icon\r",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "@eadir",
    }
)
"""Names that systems leave in folders and archives, in lower case; no user wrote these files."""
_LOCK_PREFIX = "~$"
"""First characters of the file by which Office says that another is open (``~$report.docx``)."""
_HIDDEN_PREFIXES = (".", _LOCK_PREFIX)
_RECURSIVE = "**"


@dataclass(frozen=True)
class WalkedFile:
    """File that a pattern matches, or the reason for which it is not read."""

    path: Path
    reason: str = ""
    is_linked: bool = False
    """True where a link leads to it."""


def is_hidden_name(name: str) -> bool:
    """True for a name that a wildcard does not mean: hidden, or left by a system."""
    return name.startswith(_HIDDEN_PREFIXES) or name.lower() in _SYSTEM_NAMES


def walk_pattern(base: Path, pattern: Sequence[str]) -> list[WalkedFile]:
    """Find the files below ``base`` that match a pattern, sorted by path.

    Args:
        base: Folder without wildcards.
        pattern: Parts of the glob below it; a last ``**`` means all files below.
    """
    parts = tuple(pattern)
    if parts and parts[-1] == _RECURSIVE:
        parts = (*parts, "*")
    walk = _Walk(parts)
    walk.enter_folder(base, walk.expand({0}), is_linked=False)
    while walk.pending_links:  # folders are entered under their own names first
        pending = sorted(walk.pending_links, key=lambda link: os.fsencode(link[0]))
        walk.pending_links = []
        for path, states in pending:
            walk.enter_folder(path, states, is_linked=True)
    return sorted(walk.files, key=lambda file: os.fsencode(file.path))


@dataclass
class _Walk:
    """State of one walk: positions in the pattern are those of a nondeterministic automaton."""

    parts: tuple[str, ...]
    files: list[WalkedFile] = field(default_factory=list)
    pending_links: list[tuple[Path, frozenset[int]]] = field(default_factory=list)
    _entered: set[str] = field(default_factory=set)

    def expand(self, states: set[int]) -> frozenset[int]:
        """Positions with those behind each ``**``, which may stand for no folder."""
        reached = set(states)
        for state in sorted(states):
            while state < len(self.parts) and self.parts[state] == _RECURSIVE:
                state += 1
                reached.add(state)
        return frozenset(reached)

    def enter_folder(self, folder: Path, states: frozenset[int], *, is_linked: bool) -> None:
        """Walk one folder and those below it, without those that links lead to."""
        pending = [(folder, states)]
        while pending:
            current, current_states = pending.pop()
            real = os.path.realpath(current)
            if real in self._entered:
                self.files.append(WalkedFile(current, "a link to a folder that is read already"))
                continue
            self._entered.add(real)
            try:
                with os.scandir(current) as entries:
                    names = sorted(entries, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self.files.append(WalkedFile(current, f"cannot be read: {error.strerror}"))
                continue
            for entry in names:
                pending += self._visit_entry(current / entry.name, entry, current_states, is_linked)

    def _visit_entry(
        self, path: Path, entry: os.DirEntry[str], states: frozenset[int], is_linked: bool
    ) -> Iterator[tuple[Path, frozenset[int]]]:
        """Note a file that matches; the folder to enter, if the entry is one."""
        following = self._following_states(entry.name, states, hidden=False)
        is_folder = os.path.isdir(path)  # noqa: PTH112 - a link in a circle is an error to others
        if is_hidden_name(entry.name) and not following:
            following = self._following_states(entry.name, states, hidden=True)
            if following and (is_folder or len(self.parts) in following):
                kind = "folder" if is_folder else "file"
                self.files.append(WalkedFile(path, f"a hidden {kind}"))
            return
        if not following:
            return
        is_link = entry.is_symlink()
        if is_folder:
            if is_link:
                self.pending_links.append((path, following))
            else:
                yield path, following
        elif len(self.parts) in following:
            self.files.append(_look_at_file(path, entry, is_linked or is_link))

    def _following_states(
        self, name: str, states: frozenset[int], *, hidden: bool
    ) -> frozenset[int]:
        """Positions behind an entry's name; a wildcard means hidden names only if ``hidden``."""
        reached: set[int] = set()
        is_hidden = is_hidden_name(name) and not hidden
        for state in states:
            if state >= len(self.parts):
                continue
            part = self.parts[state]
            if part == _RECURSIVE:
                if not is_hidden:
                    reached.add(state)
            elif fnmatch.fnmatchcase(name, part) and (
                not is_hidden or part.startswith(_HIDDEN_PREFIXES) or part == name
            ):
                reached.add(state + 1)
        return self.expand(reached)


def _look_at_file(path: Path, entry: os.DirEntry[str], is_linked: bool) -> WalkedFile:
    if os.path.isfile(path):  # noqa: PTH113
        return WalkedFile(path, is_linked=is_linked)
    if entry.is_symlink():
        return WalkedFile(path, "a link that leads nowhere", is_linked)
    return WalkedFile(path, "no regular file", is_linked)
