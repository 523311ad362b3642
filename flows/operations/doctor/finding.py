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
    fix: str = ""
    """The command to type; empty where there is nothing to mend."""

    def as_json(self) -> dict[str, str]:
        return {"check": self.check, "state": self.state, "what": self.what, "fix": self.fix}


def report_ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


def report_info(check: str, what: str) -> Finding:
    return Finding(check, "info", what)


def report_warning(check: str, what: str, fix: str) -> Finding:
    return Finding(check, "warning", what, fix)


def report_broken(check: str, what: str, fix: str) -> Finding:
    return Finding(check, "broken", what, fix)


def run_check(check: Callable[[Settings], Iterable[Finding]], settings: Settings) -> list[Finding]:
    """The findings of one check; what it cannot read is a finding too."""
    findings: list[Finding] = []
    try:
        findings.extend(check(settings))
    except MillError as error:
        name = check.__name__.removeprefix("check_")
        findings.append(
            report_broken(
                name, str(error), f"look at it, or set it aside: mv {shell_path(settings.home)} …"
            )
        )
    return findings


def python_command() -> str:
    """This interpreter as one would type it."""
    return shell_path(Path(sys.executable))


def shell_path(path: Path) -> str:
    """A path as one would type it: from here, if it is below, else whole; quoted if need be."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def list_first(names: Iterable[str], most: int = 3) -> str:
    """A few names and how many more."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def or_report_ok(findings: Iterator[Finding], check: str, what: str) -> Iterator[Finding]:
    """``found``, or that all is well where there is none."""
    empty = True
    for finding in findings:
        empty = False
        yield finding
    if empty:
        yield report_ok(check, what)
