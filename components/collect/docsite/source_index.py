"""Finds a class's source with one parse a file instead of one a class.

``inspect.getsource`` parses a whole file for each class it is asked for, which is three quarters of
the time pdoc takes for a page. For a process of its own, as it replaces functions of ``inspect``
and ``ast`` there.
"""

from __future__ import annotations

import ast
import gc
import inspect
import linecache
from collections.abc import Callable
from functools import cache
from typing import Any


def speed_up_source_lookup() -> None:
    """Let ``inspect.getsource`` answer for classes from an index, and parse no text twice."""
    plain: Callable[[Any], str] = inspect.getsource

    def getsource(thing: Any) -> str:
        return _class_source(thing) if isinstance(thing, type) else plain(thing)

    inspect.getsource = getsource  # type: ignore[assignment]
    ast.parse = _parse
    gc.disable()  # syntax trees hold no cycles, and a full pass over millions of nodes is long


def forget_sources() -> None:
    """Drop every source and tree that is kept."""
    _index.cache_clear()
    _parse.cache_clear()
    linecache.clearcache()


_parse: Any = cache(ast.parse)


def _class_source(cls: type) -> str:
    file = inspect.getsourcefile(cls)
    found = _index(file).get(cls.__qualname__) if file else None
    if found is None:
        raise OSError("could not find class definition")
    first, last = found
    return "".join(linecache.getlines(file)[first - 1 : last])  # type: ignore[arg-type]


@cache
def _index(file: str) -> dict[str, tuple[int, int]]:
    """Qualified class name -> first and last line; of several, the first, as ``inspect`` does."""
    found: dict[str, tuple[int, int]] = {}
    tree = ast.parse("".join(linecache.getlines(file)))
    waiting: list[tuple[ast.AST, str]] = [(tree, "")]
    while waiting:
        node, prefix = waiting.pop()
        for child in ast.iter_child_nodes(node):
            inner = prefix
            if isinstance(child, ast.ClassDef):
                start = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                name = f"{prefix}{child.name}"
                here = (start, child.end_lineno or child.lineno)
                found[name] = min(found.get(name, here), here)
                inner = f"{name}."
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{prefix}{child.name}.<locals>."
            elif not isinstance(child, ast.stmt | ast.excepthandler):
                continue
            waiting.append((child, inner))
    return found
