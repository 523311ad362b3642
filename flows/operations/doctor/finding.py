"""Finding of a check, with helpers to report one and to phrase its fix."""

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
    """Outcome of one check."""

    check: str
    state: State
    what: str
    fix: str = ""
    """Command that fixes it; empty if there is nothing to fix."""

    def as_json(self) -> dict[str, str]:
        return {"check": self.check, "state": self.state, "what": self.what, "fix": self.fix}


def report_ok(check: str, what: str) -> Finding:
    """Finding that all is well."""
    return Finding(check, "ok", what)


def report_info(check: str, what: str) -> Finding:
    """Finding to know of; nothing is wrong."""
    return Finding(check, "info", what)


def report_warning(check: str, what: str, fix: str) -> Finding:
    """Finding that may become a failure, with the command that fixes it.

    Args:
        check: name of the check.
        what: the facts, in a line.
        fix: command to type.
    """
    return Finding(check, "warning", what, fix)


def report_broken(check: str, what: str, fix: str) -> Finding:
    """Finding of a failure, with the command that fixes it.

    Args:
        check: name of the check.
        what: the facts, in a line.
        fix: command to type.
    """
    return Finding(check, "broken", what, fix)


def run_check(check: Callable[[Settings], Iterable[Finding]], settings: Settings) -> list[Finding]:
    """Run one check; an error of reading becomes a finding too."""
    findings: list[Finding] = []
    try:
        findings.extend(check(settings))
    except MillError as error:
        name = check.__name__.removeprefix("check_")
        findings.append(
            report_broken(
                name, str(error), f"inspect it, or move it away: mv {shell_path(settings.home)} …"
            )
        )
    return findings


def python_command() -> str:
    """Path of this interpreter, as typed in a shell."""
    return shell_path(Path(sys.executable))


def shell_path(path: Path) -> str:
    """Path as typed in a shell: relative if below the current folder, quoted if needed."""
    relative = os.path.relpath(path)
    return shlex.quote(str(path) if relative.startswith("..") else relative)


def list_first(names: Iterable[str], limit: int = 3) -> str:
    """First names of a list, and the number of the others."""
    listed = list(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more


def or_report_ok(findings: Iterator[Finding], check: str, what: str) -> Iterator[Finding]:
    """Pass findings on; if there are none, report that all is well.

    Args:
        findings: findings of a check.
        check: its name.
        what: the facts to report if nothing was found.
    """
    empty = True
    for finding in findings:
        empty = False
        yield finding
    if empty:
        yield report_ok(check, what)
