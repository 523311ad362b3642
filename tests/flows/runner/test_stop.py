"""Every run can be stopped: in a terminal and from outside, in each mode, and it goes on after."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.core.process.shutdown import FORCED_EXIT_MESSAGE
from tests.flows.conftest import AS_OF, ROOT, CommandLine, Server, digests, free_port
from tests.flows.runner.stoppable import CODES, LINE, Bench, Command, Way

SECONDS = 5.0
"""What a user is promised, from the signal until nothing is left."""
ON_ANY_MACHINE = 15.0
MODES = ("default", "plain", "server")
Whole = tuple[CommandLine, dict[str, Any]]


@contextmanager
def started(
    bench: Bench, *words: str, terminal: bool = True, server: Server | None = None
) -> Iterator[Command]:
    environment = {"PREFECT_API_URL": server.api} if server else {}
    command = Command(bench.modelmill, [*bench.arguments, *words], environment, terminal)
    try:
        command.wait_until(bench.at_work)
        yield command
    finally:
        command.close()


def expect_cancelled(bench: Bench, server: Server | None) -> None:
    """Flow run and task run are cancelled; a server that goes on enters task runs by batches."""
    until = time.monotonic() + (0 if server is None else 30)
    while True:
        states = bench.own_states() if server is None else bench.server_states(server)
        told = (states["flow"], states.get(bench.stage))
        if told == ("CANCELLED", "CANCELLED"):
            return
        assert time.monotonic() < until, states
        time.sleep(0.2)


def stopped(bench: Bench, way: Way, mode: str, server: Server | None) -> float:
    """Stop a run in its stage, in one mode; the seconds it took. All but those is asserted."""
    words = ["--plain"] if mode == "plain" else []
    with started(bench, *words, terminal=way == "ctrl-c", server=server) as command:
        time.sleep(0.5)
        seconds = command.end(way)
        assert command.survivors() == []
        assert command.process.returncode == CODES[way], command.said
        assert command.said.count("stopped") == 1, command.said
        last = command.said.strip().splitlines()[-1]
        assert last.removeprefix("^C") == LINE, command.said
        assert "Traceback" not in command.said
        assert FORCED_EXIT_MESSAGE not in command.said
    record = bench.record()
    assert record["state"] == "stopped", record
    if mode != "plain":
        expect_cancelled(bench, server)
    assert not (bench.modelmill.home / "store" / "sealed" / bench.key).exists()
    again = bench.modelmill.answer(*bench.arguments, "--plain")
    assert digests(again)[bench.stage] == bench.digest
    return seconds


def test_ctrl_c_in_a_crawl(nano: Whole, tmp_path: Path) -> None:
    bench = Bench.of(nano, "scrape", tmp_path / "home")
    assert stopped(bench, "ctrl-c", "plain", None) < ON_ANY_MACHINE


def test_sigterm_in_a_training_under_prefect(nano: Whole, tmp_path: Path) -> None:
    bench = Bench.of(nano, "pretrain", tmp_path / "home")
    assert stopped(bench, "sigterm", "default", None) < ON_ANY_MACHINE


def test_while_the_command_line_is_still_imported() -> None:
    program = """
import importlib.abc, sys
class Pressed(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "flows.cli.main":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Pressed())
from flows.cli.entry import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (130, "stopped\n")


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ctrl-c", "sigterm"])
def test_a_stage_on_own_files(nano: Whole, tmp_path: Path, way: Way) -> None:
    modelmill, answer = nano
    [tokens] = [step["artifact"] for step in answer["steps"] if step["stage"] == "tokens"]
    given = ["--input", str(modelmill.home / "store" / tokens), "--set", "steps=5000"]
    arguments = ["stage", "pretrain", *given, "--output", str(tmp_path / "out")]
    own = CommandLine(tmp_path / "home")
    command = Command(own, [*arguments, "--preset", "nano"], {}, terminal=way == "ctrl-c")
    try:
        command.wait_until(lambda: any(own.home.glob("store/partial/*/scratch/states")))
        assert command.end(way) < SECONDS
        assert command.survivors() == []
        assert command.process.returncode == CODES[way], command.said
        assert command.said.strip().endswith(LINE)
        assert not (tmp_path / "out").exists()
    finally:
        command.close()


@pytest.mark.slow
@pytest.mark.parametrize("way", ["ctrl-c", "sigterm"])
def test_an_endpoint(nano: Whole, way: Way) -> None:
    modelmill, port = nano[0], free_port()
    command = Command(modelmill, ["serve", "--port", str(port)], {}, terminal=way == "ctrl-c")

    def ready() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    try:
        command.wait_until(ready)
        assert command.end(way) < SECONDS
        assert command.survivors() == []
        assert command.process.returncode == CODES[way], command.said
    finally:
        command.close()


@pytest.mark.slow
def test_a_deployments_run_is_cancelled(nano: Whole, server: Server, tmp_path: Path) -> None:
    bench = Bench.of(nano, "pretrain", tmp_path / "home")
    program = (
        "from flows.pipelines.deployments import on_demand;"
        f"on_demand(preset='nano', until='pretrain', set=[{AS_OF!r}], return_state=True)"
    )
    command = Command(bench.modelmill, [], {"PREFECT_API_URL": server.api}, True, ["-c", program])
    try:
        command.wait_until(bench.at_work)
        assert command.end("sigterm") < SECONDS
        assert command.survivors() == []
        assert command.process.returncode == 0  # for its runner, which has the state
        assert FORCED_EXIT_MESSAGE not in command.said
    finally:
        command.close()
    assert bench.record()["state"] == "stopped"
    expect_cancelled(bench, server)


@pytest.mark.slow
def test_a_run_that_waits_for_a_person(nano: Whole, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(nano[0].home, home, symlinks=True)
    for name in ("mlflow", "bentos", "runs"):
        shutil.rmtree(home / name)
    for name in ("audit.jsonl", "audit.head.json"):
        (home / name).unlink()
    bench = Bench(CommandLine(home), "promote", "", "")
    arguments = ["run", "nano", "--set", AS_OF, "--set", "promote.approve=human"]
    command = Command(bench.modelmill, arguments, {}, terminal=True)
    try:
        command.wait_until(lambda: "modelmill approve" in command.said)
        time.sleep(1.0)
        assert command.end("ctrl-c") < SECONDS
        assert command.survivors() == []
        assert command.process.returncode == CODES["ctrl-c"], command.said
        assert command.said.strip().endswith(LINE)
        assert FORCED_EXIT_MESSAGE not in command.said
    finally:
        command.close()
    assert bench.record()["state"] == "stopped"
    assert bench.own_states()["flow"] == "CANCELLED"


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stage", ["scrape", "extract", "pretrain", "ppo"])
@pytest.mark.parametrize("way", ["ctrl-c", "sigterm"])
def test_a_run_is_stopped_within_five_seconds(
    nano: Whole,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    record_property: pytest.RecordProperty,
    way: Way,
    stage: str,
    mode: str,
) -> None:
    server = request.getfixturevalue("server") if mode == "server" else None
    seconds = stopped(Bench.of(nano, stage, tmp_path / "home"), way, mode, server)
    record_property("seconds", round(seconds, 2))
    assert seconds < SECONDS
