"""A command that is stopped as a user stops it: Ctrl+C in a terminal of its own, or SIGTERM."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import termios
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from components.core.io.trash import delete_path
from components.core.process.process_tree import find_marked_processes, kill_processes
from tests.flows.conftest import AS_OF, ROOT, CommandLine, Server

LINE = "stopped; the same command goes on from here"
MARK = "MODELMILL_STOPPED_IN_A_TEST"
Way = Literal["ctrl-c", "sigterm"]
CODES: dict[Way, int] = {"ctrl-c": 130, "sigterm": 143}
_CURSOR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PATIENCE_SECONDS = 240.0


class Command:
    """A program in the foreground of a terminal (Ctrl+C), or with its output in a pipe."""

    def __init__(
        self,
        modelmill: CommandLine,
        arguments: list[str],
        environment: Mapping[str, str],
        terminal: bool,
        program: list[str] | None = None,
    ) -> None:
        self.mark = uuid.uuid4().hex
        self._said: list[bytes] = []
        given = {**modelmill.environment(), **environment, MARK: self.mark}
        self._master, theirs = pty.openpty() if terminal else os.pipe()

        def take_terminal() -> None:
            if terminal:
                fcntl.ioctl(1, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            [sys.executable, *program] if program else modelmill.command(*arguments), cwd=ROOT, env=given, start_new_session=True,
            stdin=theirs if terminal else subprocess.DEVNULL, stdout=theirs, stderr=theirs,
            preexec_fn=take_terminal,
        )  # fmt: skip
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # EIO: the terminal's last program has ended
            while part := os.read(self._master, 4096):
                self._said.append(part)

    @property
    def said(self) -> str:
        """Its output, without what moves a terminal's cursor."""
        text = b"".join(self._said).decode(errors="replace").replace("\r\n", "\n")
        return _CURSOR.sub("", text)

    def survivors(self) -> list[str]:
        """What it started and still lives, wherever it went."""
        alive = []
        for process in find_marked_processes(MARK, {self.mark}):
            with suppress(Exception):
                alive.append(" ".join(process.cmdline()) or "a zombie")
        return [line for line in alive if line != "a zombie"]

    def wait_until(self, ready: Callable[[], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            assert self.process.poll() is None, f"ended before: {self.said}"
            assert time.monotonic() < until, f"never came so far: {self.said}"
            time.sleep(0.05)

    def signal(self, way: Way) -> None:
        if way == "ctrl-c":
            os.write(self._master, b"\x03")
        else:
            self.process.send_signal(signal.SIGTERM)

    def end(self, way: Way) -> float:
        """Seconds from the signal until nothing of it is left."""
        began = time.monotonic()
        self.signal(way)
        return self.gone(began)

    def gone(self, began: float) -> float:
        self.process.wait(60)
        while self.survivors() and time.monotonic() - began < 60:
            time.sleep(0.02)
        seconds = time.monotonic() - began
        self._reader.join(5)
        return seconds

    def close(self) -> None:
        kill_processes(find_marked_processes(MARK, {self.mark}))
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@dataclass(frozen=True)
class Bench:
    """A copy of a workspace with a whole run in it, without the result of one stage."""

    modelmill: CommandLine
    stage: str
    key: str
    digest: str

    @classmethod
    def of(cls, whole: tuple[CommandLine, dict[str, Any]], stage: str, home: Path) -> Bench:
        modelmill, answer = whole
        shutil.copytree(modelmill.home, home, symlinks=True)
        [step] = [step for step in answer["steps"] if step["stage"] == stage]
        delete_path(home / "store" / step["artifact"])
        for record in (home / "runs").glob("*.json"):
            record.unlink()
        return cls(CommandLine(home), stage, Path(step["artifact"]).name, step["digest"])

    @property
    def arguments(self) -> list[str]:
        return ["run", "nano", "--set", AS_OF, "--until", self.stage]

    def record(self) -> dict[str, Any]:
        """The only run's record; empty where there is none yet."""
        for path in (self.modelmill.home / "runs").glob("*.json"):
            with suppress(ValueError):
                found = json.loads(path.read_bytes())
                assert isinstance(found, dict)
                return found
        return {}

    def at_work(self) -> bool:
        """Whether the stage is being made: in a crawl, whether answers have come."""
        scratch = self.modelmill.home / "store" / "partial" / self.key / "scratch"
        if self.record().get("at") != self.stage or not (scratch / "stage.json").exists():
            return False
        return self.stage != "scrape" or self.answers() > 3

    def answers(self) -> int:
        """Pages that a crawl has asked for."""
        spool = self.modelmill.home / "store" / "partial" / self.key / "scratch" / "crawl.sqlite"
        try:
            with closing(sqlite3.connect(f"{spool.as_uri()}?mode=ro", uri=True)) as database:
                [name] = database.execute(
                    "SELECT name FROM sqlite_master WHERE type = 'table' LIMIT 1"
                ).fetchone()
                return int(database.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0])
        except (sqlite3.Error, TypeError):
            return 0

    def own_states(self) -> dict[str, str]:
        """Prefect's states in the workspace's own database."""
        flow_run = UUID(self.record()["flow_run"])
        return read_states(self.modelmill.home / "prefect" / "prefect.db", flow_run)

    def server_states(self, server: Server) -> dict[str, str]:
        """Prefect's states on a running server."""
        flow_run = self.record()["flow_run"]
        among = {"flow_runs": {"id": {"any_": [flow_run]}}}
        tasks = server.ask("task_runs/filter", among)
        found = {task["name"]: task["state_type"] for task in tasks}
        return found | {"flow": server.ask(f"flow_runs/{flow_run}")["state_type"]}


def read_states(database: Path, flow_run: UUID) -> dict[str, str]:
    """Task run -> type of its state, and that of the flow run itself, as ``flow``."""
    with closing(sqlite3.connect(database)) as connection:
        tasks = connection.execute(
            "SELECT name, state_type FROM task_run WHERE flow_run_id = ?", (str(flow_run),)
        ).fetchall()
        [flow] = connection.execute(
            "SELECT state_type FROM flow_run WHERE id = ?", (str(flow_run),)
        ).fetchone()
    return dict(tasks) | {"flow": flow}
