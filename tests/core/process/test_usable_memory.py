"""Memory bounds of both versions of control groups, read from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from components.core.process.usable_memory import cgroup_spare_memory, usable_memory


def test_the_bound_of_either_version_counts(tmp_path: Path) -> None:
    assert cgroup_spare_memory(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    assert cgroup_spare_memory(tmp_path) == 300
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    assert cgroup_spare_memory(tmp_path) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_spare_memory(tmp_path) is None
    older = tmp_path / "older" / "memory"
    older.mkdir(parents=True)
    (older / "memory.limit_in_bytes").write_text("500")
    (older / "memory.usage_in_bytes").write_text("700")
    assert cgroup_spare_memory(tmp_path / "older") == 0


def test_the_lesser_of_machine_and_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Memory:
        available = 5000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    assert usable_memory(tmp_path) == 5000
    (tmp_path / "memory.max").write_text("4000")
    (tmp_path / "memory.current").write_text("1000")
    assert usable_memory(tmp_path) == 3000
