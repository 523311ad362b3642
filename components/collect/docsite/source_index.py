"""Index of class sources: one parse a file instead of one a class.

``inspect.getsource`` parses a whole file for each class, which is three quarters of the time that
pdoc takes for a page. For a process of its own, as it replaces functions of ``inspect`` and ``ast``
there.
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
    """Patch ``inspect.getsource`` to look classes up in an index, and ``ast.parse`` to cache."""
    original_getsource: Callable[[Any], str] = inspect.getsource

    def getsource(thing: Any) -> str:
        return _class_source(thing) if isinstance(thing, type) else original_getsource(thing)

    inspect.getsource = getsource  # type: ignore[assignment]
    ast.parse = _parse
    gc.disable()  # syntax trees hold no cycles, and a full pass over millions of nodes is slow


def clear_source_caches() -> None:
    """Clear all cached sources and trees."""
    _class_lines.cache_clear()
    _parse.cache_clear()
    linecache.clearcache()


_parse: Any = cache(ast.parse)


def _class_source(cls: type) -> str:
    file = inspect.getsourcefile(cls)
    lines = _class_lines(file).get(cls.__qualname__) if file else None
    if lines is None:
        raise OSError("could not find class definition")
    first, last = lines
    return "".join(linecache.getlines(file)[first - 1 : last])  # type: ignore[arg-type]


@cache
def _class_lines(file: str) -> dict[str, tuple[int, int]]:
    """First and last line by qualified class name; of several, the first, as ``inspect`` does."""
    lines: dict[str, tuple[int, int]] = {}
    tree = ast.parse("".join(linecache.getlines(file)))
    queue: list[tuple[ast.AST, str]] = [(tree, "")]
    while queue:
        node, prefix = queue.pop()
        for child in ast.iter_child_nodes(node):
            inner_prefix = prefix
            if isinstance(child, ast.ClassDef):
                start = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                name = f"{prefix}{child.name}"
                span = (start, child.end_lineno or child.lineno)
                lines[name] = min(lines.get(name, span), span)
                inner_prefix = f"{name}."
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                inner_prefix = f"{prefix}{child.name}.<locals>."
            elif not isinstance(child, ast.stmt | ast.excepthandler):
                continue
            queue.append((child, inner_prefix))
    return lines
