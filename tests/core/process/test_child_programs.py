"""Child programs run within bounds, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from components.core.environment import child_environment
from components.core.process import child_programs
from components.core.process.child_programs import (
    ChildTimeout,
    FinishedProgram,
    run_program,
    start_async_program,
)


def _python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_it_gives_text_variables_and_folder(tmp_path: Path) -> None:
    code = "import os, sys; print(sys.stdin.read(), os.environ['A'], os.getcwd())"
    ended = run_program(_python(code), text="grüße", environment={"A": "b"}, folder=tmp_path)
    assert (ended.exit_code, ended.output) == (0, f"grüße b {tmp_path}\n")


def test_a_program_that_never_reads_a_long_text_is_no_block() -> None:
    assert run_program(_python("print(1)"), text="x" * 1_000_000).output == "1\n"


def test_the_end_of_an_output_without_end_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_programs, "_KEPT_BYTES", 1000)
    code = "import sys\nfor n in range(100000): print(n)\nsys.stderr.write('e' * 5000)"
    ended = run_program(_python(code))
    assert ended.output.endswith("99998\n99999\n")
    assert (len(ended.output), ended.errors) == (1000, "e" * 1000)


def test_a_program_past_its_limit_goes_with_what_it_started(tmp_path: Path) -> None:
    inner = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r} + '; time.sleep(600)'])"
    with pytest.raises(ChildTimeout, match="took more than 3 s"):
        run_program(_python(code), seconds=3)
    pid = int((tmp_path / "pid").read_text())
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=20)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_program_that_cannot_be_started_says_so() -> None:
    with pytest.raises(FileNotFoundError):
        run_program(["/no/such/program"])


@pytest.mark.parametrize(
    ("output", "errors", "line", "lines"),
    [
        ("out", "a\nb\n c \n", "c", "b | c"),
        ("one\ntwo\nthree\n", " \n", "three", "two | three"),
        ("", "", "no message", "no message"),
    ],
)
def test_what_it_said_last_is_one_line(output: str, errors: str, line: str, lines: str) -> None:
    ended = FinishedProgram(1, output, errors)
    assert (ended.last_line(), ended.last_lines(2)) == (line, lines)


def test_a_negative_code_names_the_signal() -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert run_program(_python(code)).exit_code == -signal.SIGKILL


PARENT = """
import sys
from components.core.process.child_programs import start_program
for tied in (True, False):
    child = start_program([sys.executable, "-c", "import time; time.sleep(600)"],
                          environment={}, ends_with_parent=tied)
    print(child.pid, flush=True)
sys.stdin.read()
"""


def test_a_started_program_ends_with_its_parent_unless_it_may_outlive_it() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment({"PYTHONPATH": os.pathsep.join(sys.path)}),
    ) as parent:
        assert parent.stdout is not None
        tied, free = (psutil.Process(int(parent.stdout.readline())) for _ in range(2))
        while "time.sleep" not in " ".join(tied.cmdline()[:3]):
            pass  # it still is the program that ties it
        parent.kill()
        parent.wait()
    try:
        psutil.wait_procs([tied], timeout=30)
        assert not tied.is_running() or tied.status() == psutil.STATUS_ZOMBIE
        assert free.is_running()
    finally:
        free.kill()


def test_a_program_of_an_event_loop_writes_to_its_log(tmp_path: Path) -> None:
    async def run() -> int:
        with (tmp_path / "log").open("wb") as output:
            process = await start_async_program(
                _python("import os, sys; sys.stderr.write(os.environ['A'])"),
                environment={"A": "b", "PYTHONPATH": os.pathsep.join(sys.path)},
                output=output,
                folder=tmp_path,
            )
        return await process.wait()

    assert asyncio.run(run()) == 0
    assert (tmp_path / "log").read_text() == "b"
