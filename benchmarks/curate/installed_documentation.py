"""Documentation and code that lie on every machine: those of the installed packages.

The order is that of the files' hashed names, so that the first thousand are drawn from all
packages and are the same wherever the same packages are installed.
"""

from __future__ import annotations

import ast
import hashlib
import sysconfig
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa

from components.text.dedup.shingles import shingle_sets

LONGEST_SOURCE = 400_000
"""Characters of a source file; longer ones are tables that a program wrote."""
SHARED = 0.2
_TESTS = {"test", "tests", "testing", "idlelib", "site-packages"}
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SAMPLE = 4
"""One shingle in four is remembered: enough to tell a share, a quarter of the memory."""


def sources(most: int) -> Iterator[str]:
    """Source files of the standard library and the installed packages, tests left out."""
    places = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    named = [
        (path.relative_to(place), path)
        for place in places
        for path in place.rglob("*.py")
        if not _TESTS & set(path.relative_to(place).parts)
    ]
    named.sort(key=lambda pair: hashlib.sha256(pair[0].as_posix().encode()).digest())
    return islice((text for _, path in named if (text := _read(path))), most)


def documentation(most: int, shortest: int, longest: int) -> Iterator[str]:
    """The docstrings of a module, one text a module, cut at ``longest`` characters."""
    texts = (_docstrings(source) for source in sources(10**9))
    return islice((text[:longest] for text in texts if len(text) >= shortest), most)


def distinct(texts: list[str]) -> list[str]:
    """Those that share at most ``SHARED`` of their word 5-shingles with all before them."""
    column = pa.chunked_array([texts], type=pa.string())
    hashes, bounds = shingle_sets(column, pa.array(range(len(texts))).to_numpy())
    seen: set[int] = set()
    kept = []
    for text, start, end in zip(texts, bounds[:-1], bounds[1:], strict=True):
        held = hashes[start:end]
        own: set[int] = set(held[held % _SAMPLE == 0].tolist())
        if own and len(own & seen) <= SHARED * len(own):
            kept.append(text)
            seen |= own
    return kept


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # of another encoding: one file less
    return text if len(text) <= LONGEST_SOURCE else ""


def _docstrings(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in others' code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""  # a template, or for another Python
    found = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, _DEFINITIONS))
    return "\n\n".join(text for text in found if text)
