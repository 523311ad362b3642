"""Signals as exceptions: at once, deferred, and by force where nobody listens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from components.core.process import shutdown
from components.core.process.shutdown import Stopped
from tests.flows.conftest import ROOT


def interrupt(sign: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), sign)
    time.sleep(0.01)  # the interpreter looks between two instructions


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_where_the_main_thread_is(sign: int, code: int) -> None:
    with shutdown.handle_signals():
        with pytest.raises(Stopped) as caught:
            interrupt(sign)
        assert caught.value.exit_code == code
        assert shutdown.requested_stop() is not None
    assert shutdown.requested_stop() is None  # for the next call of a library's user


def test_it_waits_while_deferred_and_comes_within_a_prompt_part() -> None:
    reached = []

    def engine() -> None:
        with shutdown.defer_signals():
            interrupt()
            reached.append("goes on")
            with shutdown.deliver_signals():
                reached.append("never")

    with shutdown.handle_signals(), pytest.raises(Stopped):
        engine()
    assert reached == ["goes on"]


def test_it_comes_behind_a_deferred_block() -> None:
    reached = []

    def engine() -> None:
        with shutdown.defer_signals():
            interrupt()
            reached.append("whole")
        reached.append("never")

    with shutdown.handle_signals(), pytest.raises(Stopped):
        engine()
    assert reached == ["whole"]


def test_what_loads_native_code_is_not_cut_and_the_waiting_is() -> None:
    reached = []

    def load() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        reached.append("whole")

    with shutdown.handle_signals(), pytest.raises(Stopped):
        shutdown.load_native_code(load)
    assert reached == []  # nobody waited
    time.sleep(1.0)
    assert reached == ["whole"]


def test_what_it_raises_is_raised() -> None:
    def load() -> None:
        raise ImportError("no such library")

    with pytest.raises(ImportError, match="no such library"):
        shutdown.load_native_code(load)


def test_the_former_handlers_are_back() -> None:
    former = signal.getsignal(signal.SIGINT)
    with shutdown.handle_signals():
        assert signal.getsignal(signal.SIGINT) is not former
    assert signal.getsignal(signal.SIGINT) is former


def test_another_thread_may_listen_in_vain() -> None:
    entered = []

    def listen() -> None:
        with shutdown.handle_signals():
            entered.append(True)

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert entered


DEAF = """
import hashlib, subprocess, sys, threading
from components.core.process import shutdown
sleeps = [sys.executable, "-c", "import time; time.sleep(600)"]
child = subprocess.Popen(sleeps, stdout=subprocess.DEVNULL)
with shutdown.handle_signals(force=True), shutdown.before_forced_exit(lambda: print("last words", flush=True)):
    said = False
    while True:
        try:
            if not said:
                said = True
                print(child.pid, flush=True)
            if sys.argv[1] == "native":
                hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
            threading.Event().wait(600)
        except KeyboardInterrupt:
            pass
"""


def deaf(how: str) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", DEAF, how]
    return subprocess.Popen(program, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("how", ["native", "swallows"])
def test_what_does_not_end_is_ended_by_force(how: str) -> None:
    with deaf(how) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "last words\n"
        assert process.wait(30) == 143
    until = time.monotonic() + 10  # it was killed; a busy machine takes it away a moment later
    while Path(f"/proc/{child}/exe").exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_second_signal_ends_at_once() -> None:
    with deaf("native") as process:
        assert process.stdout is not None
        process.stdout.readline()
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        time.sleep(2 * shutdown.SAME_SIGNAL_SECONDS)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert time.monotonic() - began < shutdown.FORCE_AFTER_SECONDS


SPAWNS = """
import multiprocessing, signal, sys
from components.core.process import shutdown
def masked(): sys.exit(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=masked)
    with shutdown.block_interrupts():
        child.start()
    child.join()
    print(child.exitcode)
"""


def test_the_first_process_that_is_spawned_is_shielded_too(tmp_path: Path) -> None:
    program = tmp_path / "spawns.py"
    program.write_text(SPAWNS)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(program)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_ctrl_c_does_not_reach_what_starts_shielded() -> None:
    program = "import time; print(1, flush=True); time.sleep(0.5)"
    with shutdown.block_interrupts():
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
