"""Bytes of memory that this process may still take, by the machine and its control group's bound.

``psutil.virtual_memory()`` counts that of the machine, also where a container allows less.
"""

from __future__ import annotations

from pathlib import Path

import psutil

from components.core.process.usable_cores import CGROUPS

_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)
"""(bound, bytes in use) of versions 2 and 1."""


def usable_memory(cgroups: Path = CGROUPS) -> int:
    """Bytes that this process may still take before the machine or its group has none left."""
    available = int(psutil.virtual_memory().available)
    spare = cgroup_spare_memory(cgroups)
    return available if spare is None else min(available, spare)


def cgroup_spare_memory(cgroups: Path) -> int | None:
    """Bytes left below the control group's bound; None where it sets none.

    Version 2 writes ``max`` for no bound, version 1 a number larger than any memory. Pages of files
    that the kernel gives up at need (``inactive_file``) count as free (Linux,
    Documentation/admin-guide/cgroup-v2.rst, "Memory").
    """
    for bound, used in _FILES:
        try:
            limit, current = ((cgroups / name).read_text().strip() for name in (bound, used))
        except OSError:
            continue  # the other version, or no control groups
        if limit.isdecimal() and current.isdecimal():
            cached = _reclaimable_bytes((cgroups / used).parent / "memory.stat")
            return max(0, int(limit) - int(current) + cached)
    return None


def _reclaimable_bytes(path: Path) -> int:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0  # then the pages of files count as taken
    figures = dict(line.rsplit(" ", 1) for line in lines if " " in line)
    value = figures.get("inactive_file", "0")
    return int(value) if value.isdecimal() else 0
