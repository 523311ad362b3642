"""Whatever happens to a run, nothing sealed is wrong and no work is lost beyond its unit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
CHAOS = Path(__file__).with_name("chaos.py")


def chaos(folder: Path, rounds: int, seed: int) -> dict[str, Any]:
    """Rounds on a file system of 3 MB where this machine lets us mount one, else in ``folder``."""
    program = [sys.executable, str(CHAOS), str(folder), str(rounds), str(seed)]
    mounted = f"mount -t tmpfs -o size=3m tmpfs {folder} && exec {' '.join(program)} --small-disk"
    private = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mounted]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(private, capture_output=True, text=True, env=environment)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["wrong"] == [], f"{told['wrong']}\n{done.stderr}"
    return told


@pytest.mark.parametrize("seed", [1, 2])
def test_chaos(tmp_path: Path, seed: int) -> None:
    told = chaos(tmp_path, 10, seed)
    assert told["done"]["cut"] >= 2


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_rounds_of_chaos(tmp_path: Path) -> None:
    told = chaos(tmp_path, 200, seed=7)
    assert min(told["done"][way] for way in ("by_clock", "by_operation", "race", "vanish")) >= 10
