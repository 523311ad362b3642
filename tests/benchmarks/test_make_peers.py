"""The peers' environment is made from the extra, sees this one, and is found without a variable."""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import make_peers, peer_programs
from benchmarks.make_peers import (
    make_node_environment,
    make_python_environment,
    read_bench_requirements,
)
from benchmarks.peer_programs import ROOT, find_interpreter
from components.core.errors import MillError
from components.core.settings import Settings


def test_the_extra_names_the_peers() -> None:
    names = {line.partition("=")[0] for line in read_bench_requirements(ROOT / "pyproject.toml")}
    assert {"kedro", "metaflow", "datatrove", "scrapy"} <= names


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Wheel of a package that only this test can install."""
    path, facts = tmp_path / "peer_of_a_test-1-py3-none-any.whl", "peer_of_a_test-1.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("peer_of_a_test.py", "VALUE = 1\n")
        wheel.writestr(
            f"{facts}/METADATA", "Metadata-Version: 2.1\nName: peer-of-a-test\nVersion: 1\n"
        )
        tags = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        wheel.writestr(f"{facts}/WHEEL", tags)
        wheel.writestr(f"{facts}/RECORD", "")
    return path


def test_a_peer_is_installed_beside_the_packages_of_this_environment(
    tmp_path: Path, package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "lock"
    lock.write_text("")
    python = tmp_path / "peers" / "bin" / "python"
    options = ["--no-index", str(package)]
    make_python_environment(python.parents[1], options, lock)
    command = [python, "-c", "import numpy, peer_of_a_test as p; print(p.VALUE, numpy.__version__)"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    import numpy as np

    assert told == ["1", np.__version__]
    settings = Settings(home=tmp_path, reference_data=tmp_path)
    assert find_interpreter(settings, "peer_of_a_test") is None
    monkeypatch.setattr(peer_programs, "PEERS_PYTHON", python)
    assert find_interpreter(settings, "peer_of_a_test") == python
    assert find_interpreter(settings, None) == Path(sys.executable)
    with pytest.raises(MillError, match="the peers could not be installed: "):
        make_python_environment(python.parents[1], ["--no-index", "no-such-peer"], lock)


def test_without_npm_or_a_build_a_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(make_peers.shutil, "which", lambda name: None)
    assert make_node_environment(tmp_path).startswith("npm is not on the path")
    monkeypatch.setattr(make_peers.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    assert "no build for sparc64" in make_node_environment(tmp_path)
    assert list(tmp_path.iterdir()) == []
