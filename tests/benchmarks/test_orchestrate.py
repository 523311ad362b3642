"""The programs of the bench really run their chain, and the second time from the cache."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.orchestrate import TOOLS
from benchmarks.peer_programs import find_interpreter, peer_program
from components.core.errors import ConfigError
from components.core.settings import Settings

ROOT = Path(__file__).parents[2]


def run(program: str, folder: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MODELMILL_HOME": str(folder / "home")}
    done = subprocess.run(
        [sys.executable, str(peer_program(program)), str(folder), "3", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_own_chain_is_cached_the_second_time(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    run("own_chain", folder)
    made = {path: path.stat().st_mtime_ns for path in (folder / "store" / "sealed").iterdir()}
    assert len(made) == 4
    run("own_chain", folder)
    assert {p: p.stat().st_mtime_ns for p in (folder / "store" / "sealed").iterdir()} == made


def test_dvc_chain_runs_once(tmp_path: Path) -> None:
    folder = tmp_path / "dvc"
    assert "Running stage" in run("dvc_chain", folder)
    assert "Running stage" not in run("dvc_chain", folder)


@pytest.mark.parametrize("peer", ["metaflow", "kedro"])
def test_peers_of_the_extra(peer: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} is not installed; it is an optional peer")
    said = [run(f"{peer}_chain", tmp_path / peer) for _ in range(2)]
    assert all(said)


def test_peers_interpreter(tmp_path: Path) -> None:
    needy = next(tool for tool in TOOLS if tool.package)
    given = Settings(home=tmp_path, reference_data=tmp_path, peers_python=Path(sys.executable))
    found = find_interpreter(given, needy.package)
    assert (found is None) == (importlib.util.find_spec(str(needy.package)) is None)
    absent = Settings(home=tmp_path, reference_data=tmp_path, peers_python=tmp_path / "python")
    with pytest.raises(ConfigError, match="MODELMILL_PEERS_PYTHON"):
        find_interpreter(absent, needy.package)
