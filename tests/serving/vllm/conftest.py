"""A program ``vllm`` and an endpoint in front of it, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.core.endpoint_settings import DRAIN_VARIABLE
from components.core.environment import child_environment
from components.core.process.ports import free_port
from components.core.process.process_tree import kill_process_tree
from serving.vllm.vllm_program import VllmSpec


def write_program(folder: Path) -> Path:
    """Write an executable file that speaks vLLM's command line."""
    path = folder / "bin" / "vllm"
    path.parent.mkdir()
    source = Path(__file__).with_name("fake_vllm.py").read_text()
    path.write_text(f"#!{sys.executable}\n{source}")
    path.chmod(0o755)
    return path


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An executable file that speaks vLLM's command line."""
    return write_program(tmp_path)


@dataclass
class RunningEndpoint:
    """An endpoint over the program; its files lie in ``folder``."""

    process: subprocess.Popen[str]
    address: str
    folder: Path

    def wait_ready(self) -> None:
        """Wait until it is ready; a process that ended fails the test."""
        while httpx.get(f"{self.address}/readyz").status_code != 200:
            assert self.process.poll() is None
            time.sleep(0.05)

    def wait_listening(self) -> None:
        """Wait until it listens."""
        while True:
            try:
                httpx.get(f"{self.address}/livez")
                return
            except httpx.TransportError:
                assert self.process.poll() is None, self.process.stderr
                time.sleep(0.05)

    def ask(self, prompt: Any = "hello", **fields: Any) -> httpx.Response:
        """POST a completion."""
        body = {"model": "tiny", "prompt": prompt, **fields}
        return httpx.post(f"{self.address}/v1/completions", json=body, timeout=30)


StartEndpoint = Callable[..., RunningEndpoint]


@contextmanager
def endpoints(home: Path, program: Path) -> Iterator[StartEndpoint]:
    """``start(start="works", lives=None, key="", drain="", slots=…, queue=…)``; all end with the block."""
    running: list[subprocess.Popen[str]] = []

    def start(
        start: str = "works",
        lives: int | None = None,
        key: str = "",
        drain: str = "",
        **limits: int,
    ) -> RunningEndpoint:
        folder = home / "hf"
        folder.mkdir()
        (folder / "behaviour.json").write_text(json.dumps({"start": start, "lives": lives}))
        spec = VllmSpec.model_validate(
            {
                "program": str(program), "folder": folder, "model": "tiny", "context": 64,
                "created": 1, "log": home / "vllm.log", **({"limits": limits} if limits else {}),
            }
        )  # fmt: skip
        port = free_port()
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "serving.vllm.vllm_endpoint"),
                *(spec.model_dump_json(), "127.0.0.1", str(port)),
            ],
            env=child_environment({"MODELMILL_API_KEY": key, DRAIN_VARIABLE: drain}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return RunningEndpoint(process, f"http://127.0.0.1:{port}", folder)

    try:
        yield start
    finally:
        for process in running:
            kill_process_tree(process.pid)
            process.wait()


@pytest.fixture
def start_endpoint(program: Path, tmp_path: Path) -> Iterator[StartEndpoint]:
    """Starts an endpoint of its own."""
    with endpoints(tmp_path, program) as start:
        yield start


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEndpoint]:
    """A ready endpoint that a module shares."""
    home = tmp_path_factory.mktemp("vllm")
    with endpoints(home, write_program(home)) as start:
        running = start()
        running.wait_listening()
        running.wait_ready()
        yield running
