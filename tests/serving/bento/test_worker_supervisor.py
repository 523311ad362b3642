"""An ended worker is replaced as soon as the kernel tells of it; one that cannot start, less and
less often."""

from __future__ import annotations

import subprocess
import sys

from serving.bento.worker_supervisor import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    STEADY_SECONDS,
    has_ended,
    next_pause,
)

SUPERVISED = """
import os, signal, sys
from bentoml._internal.utils import circus
from bentoml.serving import create_watcher
from serving.bento import worker_supervisor

worker_supervisor.install_worker_supervisor()
worker = create_watcher("service", ["-c", "import time; time.sleep(600)"], use_sockets=False)
# circus's own look at its workers comes too late for this test.
arbiter = circus.create_standalone_arbiter([worker], check_delay=3600)
seen = []

def watch():
    busy = arbiter._exclusive_running_command  # it takes no further command then
    present = set() if busy else set(worker.processes)
    if present and present != set(seen[-1:]):
        seen.extend(present)
        os.kill(seen[-1], signal.SIGKILL)
    if len(seen) < 3:
        arbiter.loop.call_later(0.05, watch)
    else:
        arbiter.loop.add_callback(arbiter.stop)

arbiter.loop.call_later(0.05, watch)
arbiter.start()
print(len(set(seen)))
"""


def test_killed_workers_are_replaced_long_before_circus_looks() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SUPERVISED], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.stdout == "3\n", ended.stderr[-2000:]


def test_workers_that_end_soon_are_replaced_less_and_less_often() -> None:
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], age=1.0))
    assert pauses[1:4] == [FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses[-1] == LONGEST_PAUSE
    assert next_pause(LONGEST_PAUSE, age=STEADY_SECONDS) == 0.0


def test_the_status_of_an_ended_child_is_left_to_its_owner() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input(); raise SystemExit(3)"], stdin=-1
    ) as child:
        assert not has_ended(child.pid)
        child.communicate(b"\n", timeout=30)
        assert child.returncode == 3
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        while not has_ended(child.pid):
            continue
        assert child.wait() == 3
