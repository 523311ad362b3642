"""Errors in the words of a Python caller, where the shared code speaks of the command line's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from components.core.errors import MillError

_PATTERNS = (
    (re.compile(r"^--until (.*?): no such"), r"until: given '\1': no such"),
    (re.compile(r"--until (\w+)"), r"until='\1'"),
    (re.compile(r"--set '([^']*)'"), r"\1"),
    (re.compile(r"--set (?=[A-Za-z_][\w.]*=)"), ""),
)
"""Options of the command line, and the arguments that stand for them."""


@contextmanager
def name_fields_alone(sets: Sequence[str]) -> Iterator[None]:
    """Errors within the block name a field without the ``--set`` that no caller wrote.

    Raises:
        MillError: that of the block.
    """
    try:
        yield
    except MillError as error:
        line = str(error)
        for assignment in sorted(set(sets), key=len, reverse=True):
            field, equals, _ = assignment.partition("=")
            line = line.replace(f"--set {assignment}: ", "" if equals else f"{assignment}: ")
            line = line.replace(f"--set {field.strip()}: ", f"{field.strip()}: ")
        error.args = (line,)
        raise


def reword_error(error: MillError, home: object) -> None:
    """Say arguments for options, and ``home`` for the variable that it stands in for.

    Args:
        error: its message changes.
        home: the caller's workspace; None where the variable holds.
    """
    line = str(error)
    for pattern, argument in _PATTERNS:
        line = pattern.sub(argument, line)
    if home is not None:
        line = line.replace("MODELMILL_HOME=", "home=")
        line = line.replace("set MODELMILL_HOME to", "set home to")
    if line != str(error):
        error.args = (line,)
