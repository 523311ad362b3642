"""One thing that was looked at."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from components.core.errors import MillError
from components.core.settings import Settings

State = Literal["ok", "info", "warning", "broken"]


@dataclass(frozen=True)
class Finding:
    """How one check came out."""

    check: str
    state: State
    what: str
    mend: str = ""
    """The command to type; empty where there is nothing to mend."""

    def as_json(self) -> dict[str, str]:
        return {"check": self.check, "state": self.state, "what": self.what, "mend": self.mend}


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def info(check: str, what: str) -> Finding:
    return Finding(check, "info", what)


def warning(check: str, what: str, mend: str) -> Finding:
    return Finding(check, "warning", what, mend)


def broken(check: str, what: str, mend: str) -> Finding:
    return Finding(check, "broken", what, mend)


def examined(check: Callable[[Settings], Iterable[Finding]], settings: Settings) -> list[Finding]:
    """The findings of one check; what it cannot read is a finding too."""
    found: list[Finding] = []
    try:
        found.extend(check(settings))
    except MillError as error:
        name = check.__name__.removeprefix("check_")
        found.append(
            broken(name, str(error), f"look at it, or set it aside: mv {near(settings.home)} …")
        )
    return found


def python() -> str:
    """This interpreter as one would type it."""
    return near(Path(sys.executable))


def near(path: Path) -> str:
    """A path as one would type it: from here, if it is below, else whole; quoted if need be."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def first(names: Iterable[str], most: int = 3) -> str:
    """A few names and how many more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def or_ok(found: Iterator[Finding], check: str, what: str) -> Iterator[Finding]:
    """``found``, or that all is well where there is none."""
    empty = True
    for finding in found:
        empty = False
        yield finding
    if empty:
        yield ok(check, what)
