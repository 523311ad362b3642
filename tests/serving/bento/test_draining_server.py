"""End of a server under load: answers in progress are whole, or end by an error that says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from components.core.process.ports import free_port
from serving.bento.bento_sources import ROOT

PROGRAM = """
import sys, time
from pathlib import Path
import uvicorn
import serving.bento.service  # it installs the server and the protocols
from starlette.applications import Starlette
from serving.api.openai_endpoint import create_app
from serving.bento.endpoint_app import EndpointApp, LoadedEndpoint
from serving.engine.served_folder import open_endpoint
served = open_endpoint(Path(sys.argv[1]))
hand_out = served.engine._hand_out
def hand_out_slowly(plan, outcome):
    time.sleep(0.02)
    hand_out(plan, outcome)
served.engine._hand_out = hand_out_slowly
endpoint = LoadedEndpoint()
endpoint.open(served, create_app(served, None))
app = EndpointApp(Starlette(), endpoint)
uvicorn.Server(uvicorn.Config(app, port=int(sys.argv[2]), log_level="warning")).run()
"""
ASKED = {"model": "tiny", "prompt": "a", "max_tokens": 80, "ignore_eos": True}


@dataclass
class RunningServer:
    """A server that takes some 20 ms for a token, and what its clients ask."""

    process: subprocess.Popen[bytes]
    address: str
    pool: ThreadPoolExecutor

    def begin(self) -> dict[str, Future[str]]:
        """Two streams, a whole answer and a WebSocket's, all begun."""
        asked = {
            "stream": self.pool.submit(self.post, "completions", {**ASKED, "stream": True}),
            "other stream": self.pool.submit(self.post, "completions", {**ASKED, "stream": True}),
            "whole": self.pool.submit(self.post, "completions", ASKED),
            "socket": self.pool.submit(self.ask_socket),
        }
        while httpx.get(f"{self.address}/health").json()["engine"]["rows_in_use"] < 4:
            time.sleep(0.01)
        return asked

    def post(self, path: str, body: dict[str, object]) -> str:
        """An answer to its orderly end."""
        return httpx.post(f"{self.address}/v1/{path}", json=body, timeout=30).text

    def ask_socket(self) -> str:
        """The messages of an answer, up to the last one."""
        address = self.address.replace("http", "ws") + "/v1/chat/completions"
        asked = {key: value for key, value in ASKED.items() if key != "prompt"}
        asked["messages"] = [{"role": "user", "content": "a"}]
        said = ""
        with connect(address) as socket:
            socket.send(json.dumps(asked))
            while "[DONE]" not in said and '"error"' not in said:
                said += str(socket.recv(timeout=30))
        return said


@pytest.fixture
def serving_with(served: Path) -> Iterator[Callable[[str], RunningServer]]:
    """``serving_with(seconds)``: a server in a process of its own that drains so long."""
    started: list[RunningServer] = []

    def start(drain: str) -> RunningServer:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(served), str(port)],
            cwd=ROOT,
            env={**os.environ, "MODELMILL_DRAIN_SECONDS": drain, "MODELMILL_THREADS": "1"},
        )
        server = RunningServer(process, f"http://127.0.0.1:{port}", ThreadPoolExecutor(4))
        started.append(server)
        while not is_ready(server):
            assert process.poll() is None
            time.sleep(0.05)
        return server

    yield start
    for server in started:
        server.process.kill()
        server.process.wait()
        server.pool.shutdown(wait=False)


def is_ready(server: RunningServer) -> bool:
    try:
        return httpx.get(f"{server.address}/readyz").is_success
    except httpx.TransportError:
        return False


def until_stopping(server: RunningServer) -> None:
    while httpx.get(f"{server.address}/health").json()["status"] != "stopping":
        time.sleep(0.01)


def test_sigterm_lets_answers_end(serving_with: Callable[[str], RunningServer]) -> None:
    server = serving_with("60")
    asked = server.begin()
    server.process.send_signal(signal.SIGTERM)
    until_stopping(server)
    assert httpx.get(f"{server.address}/livez").status_code == 200
    for path in ("/readyz", "/health", "/v1/models"):
        refused = httpx.get(f"{server.address}{path}")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    late = json.loads(server.post("completions", ASKED))
    assert late["error"]["code"] == "server_stopping"
    said = {name: answer.result(60) for name, answer in asked.items()}
    for name in ("stream", "other stream", "socket"):
        assert said[name].rstrip().endswith("[DONE]"), name
        assert '"finish_reason":"length"' in said[name].replace(" ", "")
    assert json.loads(said["whole"])["choices"][0]["finish_reason"] == "length"
    server.process.wait(30)


@pytest.mark.parametrize(("drain", "sign"), [("0.2", signal.SIGTERM), ("60", signal.SIGINT)])
def test_what_is_cut_ends_by_an_error(
    serving_with: Callable[[str], RunningServer], drain: str, sign: signal.Signals
) -> None:
    """At the end of its time, and at once where somebody waits at a terminal."""
    server = serving_with(drain)
    asked = server.begin()
    server.process.send_signal(sign)
    said = {name: answer.result(60) for name, answer in asked.items()}
    for name, text in said.items():
        last = text.rpartition("data: ")[2] if "stream" in name else text[text.index('{"error"') :]
        assert json.loads(last)["error"]["code"] == "server_stopping", name
    server.process.wait(30)
