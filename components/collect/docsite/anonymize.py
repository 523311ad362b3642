"""Anonymizer of rendered pages: removes this machine's paths, host name and memory addresses."""

from __future__ import annotations

import os
import re
import socket
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_COMMON_FOLDERS = frozenset({"/", "/opt", "/root", "/tmp", "/usr", "/usr/local"})  # noqa: S108
"""Folders that texts name anyway and that identify no machine."""
_PLACEHOLDER = "…"


class Anonymizer:
    """Replaces given words by a placeholder, the longest first, and removes memory addresses."""

    def __init__(self, words: Iterable[str]) -> None:
        ordered = sorted({word for word in words if len(word) > 3}, key=lambda w: (-len(w), w))
        self._words = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def for_this_machine(cls) -> Anonymizer:
        """Anonymizer of the interpreter's folders, the home, the working folder and the host."""
        folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path.home()), str(Path.cwd())]
        folders += [sys.executable, *sysconfig.get_paths().values()]
        folders += [entry for entry in sys.path if entry]
        real_folders = [os.path.realpath(folder) for folder in folders]
        words = {*folders, *real_folders} - _COMMON_FOLDERS
        host = socket.gethostname()
        # A host called "python" must not cost every page that word.
        return cls([*words, *([] if host.isalpha() else [host])])

    def anonymize_text(self, text: str) -> str:
        """``text`` with the words replaced and memory addresses removed."""
        text = _ADDRESS.sub("", text)
        return self._words.sub(_PLACEHOLDER, text) if self._words else text
