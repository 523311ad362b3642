"""Cores: affinity and the quota of a control group count, not what the machine has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core.process.thread_search import thread_limit
from components.core.process.usable_cores import cgroup_quota, usable_cores
from components.core.store.executor import ProcessExecutor


def test_affinity_bounds_cores_threads_and_workers() -> None:
    script = (
        "import os\n"
        "os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])\n"
        "from components.core.process.usable_cores import usable_cores\n"
        "from components.core.store.executor import ProcessExecutor\n"
        "from components.core.process.thread_search import thread_limit\n"
        "print(usable_cores(), thread_limit(), ProcessExecutor().workers)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    told = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True
    )
    assert told.stdout.split() == ["1", "1", "1"]


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "rubbish\n"}, None),
        ({}, None),
    ],
)
def test_the_quota_of_a_control_group(
    tmp_path: Path, files: dict[str, str], quota: float | None
) -> None:
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    assert cgroup_quota(tmp_path) == quota
    most = usable_cores(tmp_path / "none")
    assert usable_cores(tmp_path) == (most if quota is None else min(most, -(-quota // 1)))


def test_openmp_s_own_variable_bounds_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert thread_limit() == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "900,2")
    assert thread_limit() == usable_cores()
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert thread_limit() == usable_cores() == ProcessExecutor().workers
