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

MAX_SOURCE_CHARACTERS = 400_000
"""Characters of a source file; longer ones are tables that a program wrote."""
MAX_SHARED = 0.2
_SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "site-packages"}
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SAMPLING = 4
"""One shingle in four is remembered: enough to tell a share, a quarter of the memory."""


def read_sources(limit: int) -> Iterator[str]:
    """Source files of the standard library and the installed packages, tests left out."""
    roots = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib"))
    files = [
        (path.relative_to(place), path)
        for place in roots
        for path in place.rglob("*.py")
        if not _SKIPPED_FOLDERS & set(path.relative_to(place).parts)
    ]
    files.sort(key=lambda pair: hashlib.sha256(pair[0].as_posix().encode()).digest())
    return islice((text for _, path in files if (text := _read(path))), limit)


def read_docstrings(limit: int, min_characters: int, max_characters: int) -> Iterator[str]:
    """The docstrings of a module, one text a module, cut at ``longest`` characters."""
    texts = (_docstrings(source) for source in read_sources(10**9))
    return islice((text[:max_characters] for text in texts if len(text) >= min_characters), limit)


def drop_near_duplicates(texts: list[str]) -> list[str]:
    """Those that share at most ``MAX_SHARED`` of their word 5-shingles with all before them."""
    column = pa.chunked_array([texts], type=pa.string())
    hashes, bounds = shingle_sets(column, pa.array(range(len(texts))).to_numpy())
    seen: set[int] = set()
    distinct_texts = []
    for text, start, end in zip(texts, bounds[:-1], bounds[1:], strict=True):
        shingles = hashes[start:end]
        sampled: set[int] = set(shingles[shingles % _SAMPLING == 0].tolist())
        if sampled and len(sampled & seen) <= MAX_SHARED * len(sampled):
            distinct_texts.append(text)
            seen |= sampled
    return distinct_texts


def _read(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""  # of another encoding: one file less
    return text if len(text) <= MAX_SOURCE_CHARACTERS else ""


def _docstrings(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes in others' code
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""  # a template, or for another Python
    docstrings = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, _DEFINITIONS))
    return "\n\n".join(text for text in docstrings if text)
