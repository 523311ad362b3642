"""Index of the modules to document, from the file system: nothing is imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

STDLIB = "stdlib"
"""Name for every public top-level module of the standard library."""


def find_modules(wanted: Sequence[str], excluded: Sequence[str]) -> dict[str, list[str]]:
    """Find modules by top-level name, as dotted names, parents first, in a fixed order.

    ``wanted`` holds package names and ``"stdlib"``; ``excluded`` holds dotted names (with all below
    them) and single names (``tests``) that are left out wherever they stand. Private modules
    (a part that starts with an underscore) are always left out.
    """
    names: list[str] = []
    for name in wanted:
        names.extend(sorted(sys.stdlib_module_names) if name == STDLIB else [name])
    dotted = frozenset(excluded)
    groups: dict[str, list[str]] = {}
    for name in names:
        if name.startswith("_") or name in dotted or name in groups:
            continue
        groups[name] = [name, *_submodules(name, _search_path(name), dotted)]
    return groups


def _search_path(name: str) -> list[str]:
    if name in sys.builtin_module_names:
        return []
    spec = importlib.machinery.PathFinder.find_spec(name)
    return list(spec.submodule_search_locations or []) if spec is not None else []


def _submodules(parent: str, paths: Sequence[str], excluded: frozenset[str]) -> Iterator[str]:
    for info in sorted(pkgutil.iter_modules(list(paths)), key=lambda info: info.name):
        name = f"{parent}.{info.name}"
        if info.name.startswith("_") or excluded & {info.name, name}:
            continue
        yield name
        if info.ispkg:
            yield from _submodules(name, [str(Path(path, info.name)) for path in paths], excluded)


def is_installed(name: str) -> bool:
    """True where a top-level module of this name can be found; it is not imported."""
    return name == STDLIB or importlib.util.find_spec(name) is not None
