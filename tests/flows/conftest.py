"""One real run of the whole chain, shared by the tests of this folder."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from tests.flows.forked import run_forked

ROOT = Path(__file__).parents[2]
AS_OF = "scrape.as_of=2026-01-01T00:00:00Z"
"""A fixed date, so that crawls of two workspaces are the same crawl."""


@dataclass(frozen=True)
class CommandLine:
    """The command line on a workspace of its own, run from a checkout."""

    home: Path
    checkout: Path = ROOT

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MODELMILL_HOME": str(self.home),
            "PYTHONPATH": str(self.checkout),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli.main", *arguments]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end: in a fork, where it is the tested checkout's."""
        if self.checkout != ROOT:
            return self.start_fresh(*arguments)
        return run_forked(arguments, ROOT, self.environment(), timeout=400)

    def start_fresh(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end as a shell would start it, imports included."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.checkout,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=400,
        )

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The object of ``--json``; everything else must be on standard error."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {step["stage"]: step["state"] for step in answer["steps"]}


def digests(answer: dict[str, Any]) -> dict[str, str]:
    """Stage -> digest of what the store holds (an action's reference may carry a clock)."""
    sealed = [step for step in answer["steps"] if step["state"] in ("Completed", "Cached")]
    return {s["stage"]: s["digest"] for s in sealed if s["artifact"].startswith("sealed/")}


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[CommandLine, dict[str, Any]]:
    """A workspace in which ``nano`` ran once, under Prefect, and what that run said."""
    modelmill = CommandLine(tmp_path_factory.mktemp("nano") / "home")
    done = modelmill.start_fresh("run", "nano", "--set", AS_OF, "--json")
    assert done.returncode == 0, done.stderr
    return modelmill, json.loads(done.stdout)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Server:
    """A running Prefect server of its own."""

    api: str
    home: Path

    def environment(self) -> dict[str, str]:
        """For a program that uses this server, whatever the test's own environment says."""
        return {
            **os.environ,
            "PREFECT_API_URL": self.api,
            "PREFECT_HOME": str(self.home),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        }

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """One call of the server's API; one that is busy (503) is asked again."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.api}/{path}", data, headers)
        for tries_left in reversed(range(20)):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.loads(answer.read() or b"null")
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or not tries_left:
                    raise
                time.sleep(0.5)
        raise AssertionError("unreachable")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One real server for all tests of this folder: it takes seconds to come up."""
    port, home = free_port(), tmp_path_factory.mktemp("prefect")
    found = Server(f"http://127.0.0.1:{port}/api", home)
    # The scheduler looks for new schedules once a minute if left alone.
    quick = {
        "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "2",
        "PREFECT_LOGGING_LEVEL": "WARNING",
    }
    command = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", *command],
        env=found.environment() | quick,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 120
        while not _answers(found):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < until, "the server never answered"
            time.sleep(0.2)
        yield found
    finally:
        process.terminate()
        process.wait(30)


def _answers(server: Server) -> bool:
    try:
        return bool(server.ask("health"))
    except (urllib.error.URLError, OSError):
        return False
