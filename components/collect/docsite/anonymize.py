"""Takes this machine out of a page: paths, names, memory addresses, unstable orders."""

from __future__ import annotations

import os
import re
import socket
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]{4,}")
_EVERYWHERE = frozenset({"/", "/opt", "/root", "/tmp", "/usr", "/usr/local"})  # noqa: S108
"""Folders that many texts name and that tell nothing about a machine."""
_PLACEHOLDER = "…"


class Scrubber:
    """Replaces each given word, longest first; and every memory address."""

    def __init__(self, words: Iterable[str]) -> None:
        ordered = sorted({word for word in words if len(word) > 3}, key=lambda w: (-len(w), w))
        self._words = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def of_this_machine(cls) -> Scrubber:
        """Knows the interpreter's and the packages' folders, the home and the working folder."""
        folders = [sys.prefix, sys.base_prefix, sys.exec_prefix, str(Path.home()), str(Path.cwd())]
        folders += [sys.executable, *sysconfig.get_paths().values()]
        folders += [entry for entry in sys.path if entry]
        real = [os.path.realpath(folder) for folder in folders]
        known = {*folders, *real} - _EVERYWHERE
        host = socket.gethostname()
        # A host called "python" must not cost every page that word.
        return cls([*known, *([] if host.isalpha() else [host])])

    def clean(self, text: str) -> str:
        """``text`` without them."""
        text = _ADDRESS.sub("", text)
        return self._words.sub(_PLACEHOLDER, text) if self._words else text
