"""A key stays in use for as long as the process that took it lives, however that ends."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from components.core.io.locks import is_locked
from components.core.store.leases import Leases
from components.core.store.store import Store

HOLDER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from components.core.store.leases import Leases
    leases = Leases(Path(sys.argv[1]))
    leases.take_lease("one")
    leases.take_lease("two")
    leases.take_lease("one")
    print("ready", flush=True)
    sys.stdin.readline()
    """
)


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_keys_of_a_living_process_and_of_a_dead_one(
    holder: subprocess.Popen[str], tmp_path: Path, end: signal.Signals
) -> None:
    leases = Leases(tmp_path)
    assert leases.keys_in_use() == {"one", "two"}
    with leases.freeze_keys() as used:
        assert used == {"one", "two"}
    holder.send_signal(end)
    holder.wait()
    assert leases.keys_in_use() == frozenset()
    assert list((tmp_path / "uses").iterdir()) != []  # only a collection clears
    with leases.freeze_keys() as used:
        assert used == frozenset()
    assert list((tmp_path / "uses").iterdir()) == []


def test_no_key_is_taken_while_a_collection_looks(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from components.core.store.leases import Leases; "
    )
    script += (
        "print('asks', flush=True); Leases(Path(sys.argv[1])).take_lease('late'); print('took')"
    )
    with Leases(tmp_path).freeze_keys() as used:
        process = subprocess.Popen(
            [sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        assert "late" not in used
    assert process.communicate(timeout=30)[0] == "took\n"


def test_its_own_keys_are_in_use(tmp_path: Path) -> None:
    leases = Leases(tmp_path)
    leases.take_lease("mine")
    assert leases.keys_in_use() == {"mine"}
    with leases.freeze_keys() as used:
        assert used == {"mine"}


WAITER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from components.core.store.store import Store
    root = Path(sys.argv[1])
    print("waits", flush=True)
    with Store(root).lock_key("key"):
        inside = root / "inside"
        assert not inside.exists(), "two hold one lock"
        inside.touch()
        print("inside", flush=True)
        time.sleep(1.0)
        inside.unlink()
    """
)


def test_a_lock_file_that_is_deleted_while_waited_for_locks_nobody_in(tmp_path: Path) -> None:
    """Without a look at the file after waiting, one racer holds the old file, one the new."""
    path, racers = tmp_path / "locks" / "key", list[subprocess.Popen[str]]()
    with Store(tmp_path).lock_key("key"):
        racers.append(_racer(tmp_path))
        inode = f":{path.stat().st_ino} "
        waits = lambda line: "->" in line and inode in line  # noqa: E731
        while not any(map(waits, Path("/proc/locks").read_text().splitlines())):
            time.sleep(0.01)
        assert is_locked(path)
        path.unlink()
        racers.append(_racer(tmp_path))
        assert racers[1].stdout is not None
        assert racers[1].stdout.readline() == "inside\n"
    said = [racer.communicate(timeout=60)[1] for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], said


def _racer(root: Path) -> subprocess.Popen[str]:
    racer = subprocess.Popen(
        [sys.executable, "-c", WAITER, root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert racer.stdout is not None
    assert racer.stdout.readline() == "waits\n"
    return racer
