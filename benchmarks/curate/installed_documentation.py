"""Source code and docstrings of the standard library and the installed packages, as sample texts.

Files are ordered by the hashes of their names, so that the first thousand are drawn from all
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
"""Longer source files are skipped: they are mostly generated tables."""
MAX_SHARED = 0.2
"""Share of shingles seen before above which a text counts as a near duplicate."""
_SKIPPED_FOLDERS = {"test", "tests", "testing", "idlelib", "site-packages"}
_DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_SAMPLING = 4
"""One shingle in four is kept: enough to estimate a share at a quarter of the memory."""


def read_sources(limit: int) -> Iterator[str]:
    """Up to ``limit`` sources of the standard library and the installed packages, without tests."""
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
    """Docstrings of modules, joined to one text a module.

    Args:
        limit: number of texts.
        min_characters: modules with less are skipped.
        max_characters: longer texts are cut.
    """
    texts = (_docstrings(source) for source in read_sources(10**9))
    return islice((text[:max_characters] for text in texts if len(text) >= min_characters), limit)


def drop_near_duplicates(texts: list[str]) -> list[str]:
    """Texts that share at most ``MAX_SHARED`` of their word 5-shingles with all before them."""
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
        return ""  # not UTF-8: skipped
    return text if len(text) <= MAX_SOURCE_CHARACTERS else ""


def _docstrings(source: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the source of packages
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return ""  # a template, or syntax of another Python version
    docstrings = (ast.get_docstring(n) for n in ast.walk(tree) if isinstance(n, _DEFINITIONS))
    return "\n\n".join(text for text in docstrings if text)
