"""Files that share a costly fixture run on one worker, and other files on whichever is free."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.worker_groups import costly_fixture

ROOT = Path(__file__).resolve().parents[1]
CONFTEST = """
import os
import pytest
from pathlib import Path
from tests.conftest import pytest_collection_modifyitems, pytest_xdist_make_scheduler

@pytest.fixture(scope="session")
def nano():
    Path(__file__).with_name(f"made-{os.getpid()}").touch()
"""
ASKING = "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_it(n, nano): pass\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("def test_it(tmp_path, server, nano): pass", "nano"),
        ("@pytest.fixture(scope='module')\ndef pool(server): pass", "server"),
        ("@pytest.mark.slow\ndef test_it(nano): pass", None),
        ("def helper(nano): pass\ndef test_it(tmp_path): pass", None),
    ],
)
def test_a_file_tells_its_costly_fixture(text: str, name: str | None, tmp_path: Path) -> None:
    path = tmp_path / "test_file.py"
    path.write_text(text)
    assert costly_fixture(path) == name


def test_a_costly_fixture_is_made_on_one_worker(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    for letter in "abc":
        (tmp_path / f"test_{letter}.py").write_text(ASKING)
    options = [
        "-n",
        "2",
        "--dist",
        "loadgroup",
        "--rootdir",
        str(tmp_path),
        "-p",
        "no:cacheprovider",
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(tmp_path)],
        cwd=tmp_path, env={**environment, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert "12 passed" in done.stdout, done.stdout + done.stderr
    assert len(list(tmp_path.glob("made-*"))) == 1
