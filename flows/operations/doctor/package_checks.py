"""Checks of the Python version and of every package against the lock file."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from components.core.settings import Settings
from flows.operations.doctor.finding import (
    Finding,
    list_first,
    python_command,
    report_broken,
    report_ok,
    report_warning,
)
from serving.bento.bento_sources import LOCK_FILE, ROOT

OLDEST_PYTHON, NEWEST_PYTHON = (3, 11), (3, 12)


def check_python(settings: Settings) -> Iterator[Finding]:
    """Check that this Python is one that the lock file is resolved for."""
    version = ".".join(map(str, sys.version_info[:3]))
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        yield report_ok("python", version)
    else:
        yield report_broken(
            "python", f"{version}; 3.11 or 3.12 is needed", "make setup PYTHON=python3.11"
        )


def check_packages(settings: Settings) -> Iterator[Finding]:
    """Compare the installed packages with ``requirements.lock``."""
    yield from compare_with_lock(ROOT / LOCK_FILE)


def compare_with_lock(lock: Path) -> Iterator[Finding]:
    """Report packages that are missing or of another version than in a lock file."""
    if not lock.is_file():
        yield report_broken("packages", f"{lock} is missing", f"git checkout -- {LOCK_FILE}")
        return
    pinned: dict[str, str] = dict(_read_pins(lock))
    installed: dict[str, str] = {
        canonicalize_name(name): distribution.version
        for distribution in importlib.metadata.distributions()
        if (name := distribution.metadata["Name"])
    }
    missing = [f"{name} {version}" for name, version in pinned.items() if name not in installed]
    differing = [
        f"{name} is {installed[name]}, the lock says {version}"
        for name, version in pinned.items()
        if name in installed and not _is_same_version(installed[name], version)
    ]
    fix = f"{python_command()} -m pip install -r {LOCK_FILE}"
    if missing:
        yield report_broken("packages", f"not installed: {list_first(missing)}", fix)
    if differing:
        yield report_warning("packages", list_first(differing), fix)
    if not missing and not differing:
        yield report_ok("packages", f"all {len(pinned)} as in {LOCK_FILE}")


def _read_pins(lock: Path) -> Iterator[tuple[str, str]]:
    for line in lock.read_text(encoding="utf-8").splitlines():
        try:
            wanted = Requirement(line.partition(" #")[0])
        except InvalidRequirement:
            continue  # a comment or an option
        versions = [part.version for part in wanted.specifier if part.operator == "=="]
        if versions and (wanted.marker is None or wanted.marker.evaluate()):
            yield canonicalize_name(wanted.name), versions[0]


def _is_same_version(installed: str, pinned: str) -> bool:
    """Compare versions without the suffix of a local build (``+cpu``)."""
    return Version(installed).public == Version(pinned).public
