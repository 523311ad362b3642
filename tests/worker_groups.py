"""Groups of tests for the workers of pytest-xdist: ``pytest -n auto --dist loadgroup``.

A worker takes a whole file, so that a fixture of a module is made once, or all files that ask for
one costly fixture. ``loadgroup`` as xdist has it writes the group into a test's id, which pytest
9.2 does not take any more: every test would be a group of its own, and nobody would be told.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

COSTLY = ("nano", "server")
"""Fixtures that take many seconds and serve several files, the dearest first."""


@cache
def costly_fixture(path: Path) -> str | None:
    """The costly fixture that a file's tests or fixtures ask for; None for most files.

    The process that hands out the tests has not collected them: it reads the file. Slow tests are
    left out by default, and do not count.
    """
    nodes = ast.walk(ast.parse(path.read_bytes()))
    functions = [n for n in nodes if isinstance(n, ast.FunctionDef) and _asks_for_fixtures(n)]
    asked = {argument.arg for function in functions for argument in function.args.args}
    return next((name for name in COSTLY if name in asked), None)


def _asks_for_fixtures(function: ast.FunctionDef) -> bool:
    decorators = [ast.unparse(decorator) for decorator in function.decorator_list]
    if function.name.startswith("test_"):
        return "pytest.mark.slow" not in decorators
    return any(decorator.startswith("pytest.fixture") for decorator in decorators)


def place(item: pytest.Item) -> int:
    """Key of the order in which groups are handed out: what takes longest is begun first."""
    name = costly_fixture(item.path)
    return len(COSTLY) if name is None else COSTLY.index(name)


class GroupScheduling(LoadScopeScheduling):
    """Hands out groups in the order of the collection, one to each worker that is free."""

    def __init__(self, config: pytest.Config, log: Producer) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False  # by the number of tests says nothing of seconds

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return costly_fixture(self.config.rootpath / file) or file
