"""However a command fails, ``--json`` prints one object with ``error``, ``kind``, ``exit_code``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import CommandLine
from tests.flows.forked import run_forked
from tests.workspace import Hand

BREAK = """
import os, signal, sys
from components.collect import scrape
from flows.cli import entry, main

def broken(*_, **__):
    {how}

{where} = broken
sys.argv = ["modelmill", *{words}]
main.main()
"""
"""The command line of a program with a fault in it."""


def fail(home: Path, how: str, *words: str, where: str = "scrape._crawl_source") -> Any:
    modelmill = CommandLine(home)
    code = BREAK.format(how=how, where=where, words=list(words))
    return run_forked(words, modelmill.checkout, modelmill.environment(), timeout=200, program=code)


def failure(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    told = json.loads(done.stdout)
    assert isinstance(told, dict)
    assert {"error", "kind", "exit_code"} <= set(told), told
    assert told["exit_code"] == done.returncode
    assert told["error"]
    return told


RUN = ("run", "nano", "--until", "scrape", "--json")


@pytest.mark.parametrize("words", [(*RUN, "--plain"), RUN])
def test_a_stage_that_crashes(tmp_path: Path, words: tuple[str, ...]) -> None:
    how = "raise RuntimeError('no such thing,' + chr(10) + 'password=hunter2')"
    done = fail(tmp_path / "home", how, *words)
    told = failure(done)
    assert (told["kind"], told["exit_code"]) == ("RuntimeError", 1)
    assert told["error"] == "RuntimeError: no such thing, password=***"
    assert "in broken" in done.stderr  # the traceback, for a report
    assert "password=hunter2" not in done.stderr
    assert done.stderr.endswith(f"modelmill: {told['error']}\n")


@pytest.mark.parametrize(
    ("how", "kind", "exit_code"),
    [
        ("raise KeyboardInterrupt", "Stopped", 130),
        ("os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(30)", "Stopped", 143),
        ("raise MemoryError", "MemoryError", 1),
        (
            "from components.core.store.executor import ProcessExecutor; list(ProcessExecutor(1).map(os._exit, [9]))",
            "WorkerLost",
            1,
        ),
        ("raise OSError(28, 'No space left on device')", None, 1),
    ],
)
def test_a_command_that_is_broken_off(
    tmp_path: Path, how: str, kind: str | None, exit_code: int
) -> None:
    told = failure(fail(tmp_path / "home", how, *RUN, "--plain"))
    assert told["exit_code"] == exit_code
    assert kind is None or told["kind"] == kind


def test_an_installation_that_is_not_whole(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['flows.cli.main'] = None; sys.argv = ['modelmill', 'show', '--json']\n"
        "from flows.cli import entry; entry.main()"
    )
    modelmill = CommandLine(tmp_path / "home")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=modelmill.checkout,
        env=modelmill.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert failure(done)["kind"] == "ModuleNotFoundError"


def test_an_answer_that_is_a_failure(tmp_path: Path) -> None:
    hand = Hand(tmp_path / "home")
    sealed = hand.store / hand.seal("words that should be gone").name / "content.txt"
    modelmill = CommandLine(tmp_path / "home")
    told = failure(modelmill("forget", "words that should be gone", "--verify", "--json"))
    assert (told["clean"], told["kind"]) == (False, "CheckFailed")
    sealed.chmod(0o644)
    sealed.write_text("other words")
    told = failure(modelmill("doctor", "--deep", "--json"))
    assert told["error"].startswith("broken: ")
    assert told["broken"] >= 1


def test_a_server_that_ends_by_itself(tmp_path: Path) -> None:
    """What ``serve --json`` becomes; this folder holds no Bento."""
    modelmill = CommandLine(tmp_path / "home")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "serving.gateway.foreground",
            str(tmp_path),
            "127.0.0.1",
            "0",
            "--json",
        ],
        cwd=modelmill.checkout,
        env=modelmill.environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = done.stdout.splitlines()
    told = json.loads(lines[-1])
    assert (told["kind"], told["exit_code"]) == ("ServerEnded", done.returncode)
