"""Number of cores available to this process, by its affinity and its control group's quota.

``os.cpu_count()`` counts those of the machine, also where ``taskset`` or a container allows fewer.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def usable_cores(cgroups: Path = CGROUPS) -> int:
    """Number of cores that this process may keep busy, at least one."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:  # macOS and Windows know no affinity
        allowed = os.cpu_count() or 1
    quota = cgroup_quota(cgroups)
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))


def cgroup_quota(cgroups: Path) -> float | None:
    """CPU quota of the control group, in cores; None where it sets no bound.

    Version 2 writes ``QUOTA PERIOD`` or ``max PERIOD`` into one file, version 1 a number each into
    two, -1 for no bound (Linux, Documentation/admin-guide/cgroup-v2.rst, "CPU").
    """
    for files in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        try:
            words = " ".join((cgroups / name).read_text() for name in files).split()
        except OSError:
            continue  # the other version, or no control groups
        if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
            return int(words[0]) / int(words[1])
    return None
