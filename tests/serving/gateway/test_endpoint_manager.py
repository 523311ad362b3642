"""The manager: switches between servers without losing a request, and what it does when they die.

Most servers here are a few lines of Python; the last test switches between two real Bentos.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from components.core.action import Workspace
from components.core.errors import MillError
from components.core.process.ports import free_port
from components.core.process.process_tree import find_marked_processes
from components.core.settings import Settings
from components.core.store.artifact import Bundle, Lineage, ModelVersion
from components.core.store.workdir import Workdir
from components.publish.bento_folders import bentos_folder, check_bento_files, write_file_list
from components.publish.promotion.endpoint_swap import EndpointSwap, ServedModel
from serving.api.limits import EndpointLimits
from serving.bento.build_bento import PackageConfig, package
from serving.gateway import endpoint_manager
from serving.gateway.backend import Backend, start_backend
from serving.gateway.endpoint_manager import EndpointManager
from serving.gateway.reverse_proxy import ProxyTarget, ReverseProxy
from serving.gateway.server_process import SERVER_MARK, ServerProcess
from tests.workspace import Hand

PROGRAM = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
name, port = sys.argv[1], int(sys.argv[2])
if name.startswith("dies"):
    sys.exit("no such luck")
if name.startswith("broken"):
    print("Application startup failed. Exiting.", flush=True)
    time.sleep(600)
class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if name.startswith("hangs") and self.path == "/readyz":
            time.sleep(600)
        if self.path == "/die":
            import os; os._exit(3)
        if self.path == "/slow":
            time.sleep(1.5)
        self.send_response(200)
        self.send_header("Content-Length", str(len(name)))
        self.end_headers()
        self.wfile.write(name.encode())
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", port), Answer)
server.daemon_threads = False
if name.startswith("drains"):  # ends once its answers have
    import signal, threading
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
server.server_close()
"""
STARTED: list[Backend] = []


def small(settings: Settings, served: ServedModel) -> Backend:
    """Starts a server that says the name of its Bento; the name says how it behaves."""
    log, port, mark = settings.logs / f"{served.bento}.log", free_port(), secrets.token_hex(8)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, served.bento, str(port)],
            stdout=output, stderr=output, env={SERVER_MARK: mark},
        )  # fmt: skip
    backend = Backend(served, ServerProcess(process, port, log, mark), ProxyTarget(port))
    STARTED.append(backend)
    return backend


def model(bento: str) -> ServedModel:
    return ServedModel("tiny", "1", bento)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setattr(endpoint_manager, "_LOOK_SECONDS", 0.1)
    STARTED.clear()
    return Settings(home=tmp_path, reference_data=tmp_path)


class RunningEndpoint:
    """A running manager, its promoter and a client of its proxy."""

    def __init__(
        self, manager: EndpointManager, client: httpx.AsyncClient, ended: asyncio.Event
    ) -> None:
        self.manager, self.client, self.ended = manager, client, ended
        self.promoter = EndpointSwap(manager.settings)

    async def says(self, path: str = "/") -> str:
        answer = await self.client.get(path)
        return answer.text if answer.is_success else answer.json()["error"]["code"]

    async def until(self, said: str) -> None:
        while await self.says() != said:
            await asyncio.sleep(0.05)

    async def prepare(self, bento: str, seconds: float = 20) -> None:
        await asyncio.to_thread(self.promoter.prepare, model(bento), seconds)

    async def switch(self, bento: str) -> None:
        await asyncio.to_thread(self.promoter.switch, model(bento), 20)

    async def drop(self, bento: str) -> None:
        await asyncio.to_thread(self.promoter.drop, model(bento))


@asynccontextmanager
async def keeping_up(
    settings: Settings, how: endpoint_manager.BackendFactory = small
) -> AsyncIterator[RunningEndpoint]:
    proxy, ended = ReverseProxy(), asyncio.Event()
    address = f"http://127.0.0.1:{await proxy.listen(0)}"
    manager = EndpointManager(settings, proxy, how)
    running = asyncio.create_task(manager.run(ended))
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as client:
        endpoint = RunningEndpoint(manager, client, ended)
        while not endpoint.promoter.is_running():
            await asyncio.sleep(0.01)
        try:
            async with asyncio.timeout(90):
                yield endpoint
        finally:
            ended.set()
            await running
            await proxy.close()
    assert all(backend.server.process.poll() is not None for backend in STARTED)


def alive() -> list[str]:
    return [b.served.bento for b in STARTED if b.server.process.poll() is None]


def test_prepare_switch_back_and_drop(settings: Settings) -> None:
    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.until("no_champion")
            await endpoint.prepare("one")
            assert await endpoint.says() == "no_champion"
            await endpoint.switch("one")
            await endpoint.switch("one")
            assert await endpoint.says() == "one"
            await endpoint.prepare("two")
            assert (await endpoint.says(), alive()) == ("one", ["one", "two"])
            await endpoint.drop("two")
            assert (await endpoint.says(), alive()) == ("one", ["one"])
            await endpoint.switch("two")  # not prepared: it is, first
            assert await endpoint.says() == "two"
            while alive() != ["two"]:
                await asyncio.sleep(0.05)
            status = endpoint.promoter.read_status()
            assert status is not None
            assert (status.serving, status.prepared) == (model("two"), None)

    asyncio.run(check())


def test_the_old_one_finishes_its_answer_and_can_be_taken_back_meanwhile(
    settings: Settings,
) -> None:
    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("one")
            slow = asyncio.create_task(endpoint.says("/slow"))
            await asyncio.sleep(0.3)
            await endpoint.switch("two")
            assert await endpoint.says() == "two"
            await endpoint.prepare("one")
            await endpoint.switch("one")
            assert [b.served.bento for b in STARTED] == ["one", "two"]  # none was started again
            assert (await slow, await endpoint.says()) == ("one", "one")

    asyncio.run(check())


def test_the_end_waits_for_answers_and_refuses_new_ones(settings: Settings) -> None:
    async def check() -> str:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("drains")
            slow = asyncio.create_task(endpoint.says("/slow"))
            while not endpoint.manager.serving or not endpoint.manager.serving.target.active:
                await asyncio.sleep(0.01)
            endpoint.ended.set()
            await endpoint.until("server_stopping")
            refused = await endpoint.client.get("/")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            return await slow

    assert asyncio.run(check()) == "drains"


@pytest.mark.parametrize(
    ("bento", "why"), [("dies", "no such luck"), ("broken", "could not start")]
)
def test_what_does_not_start_changes_nothing(settings: Settings, bento: str, why: str) -> None:
    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("one")
            with pytest.raises(MillError, match=f"did not prepare tiny version 1: .*{why}"):
                await endpoint.prepare(bento)
            with pytest.raises(MillError, match=f"did not switch tiny version 1: .*{why}"):
                await endpoint.switch(bento)
            assert (await endpoint.says(), alive()) == ("one", ["one"])

    asyncio.run(check())


def test_a_promoter_that_waits_no_longer_has_it_ended(settings: Settings) -> None:
    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("one")
            with pytest.raises(MillError, match="did not prepare tiny version 1 within 1 s"):
                await endpoint.prepare("hangs", seconds=1)
            assert (await endpoint.says(), alive()) == ("one", ["one"])

    asyncio.run(check())


def test_a_server_that_dies_is_started_again_but_not_without_end(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint_manager, "RESTARTS", 2)

    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("one")
            for _ in range(2):
                assert await endpoint.says("/die") == "server_ended"
                await endpoint.until("one")
            assert await endpoint.says("/die") == "server_ended"
            await endpoint.until("failed")
            await asyncio.sleep(0.5)
            assert (await endpoint.says(), alive(), len(STARTED)) == ("failed", [], 3)
            await endpoint.switch("two")  # a promotion brings it back
            assert await endpoint.says() == "two"

    asyncio.run(check())


def test_a_prepared_one_that_dies_or_is_forgotten_is_given_up(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check() -> None:
        async with keeping_up(settings) as endpoint:
            await endpoint.switch("one")
            for name in ("two", "three"):
                await endpoint.prepare(name)
                if name == "two":
                    STARTED[-1].server.process.kill()
                else:
                    monkeypatch.setattr(endpoint_manager, "_UNUSED_SECONDS", 0.0)
                while (
                    status := endpoint.promoter.read_status()
                ) is None or status.prepared is not None:
                    await asyncio.sleep(0.05)
            while alive() != ["one"]:
                await asyncio.sleep(0.05)
            assert await endpoint.says() == "one"

    asyncio.run(check())


def champion(settings: Settings, bundle: str) -> None:
    """The tables that a registry is read from, with one champion."""
    settings.mlflow.mkdir(exist_ok=True)
    with sqlite3.connect(settings.mlflow / "mlflow.db") as database:
        database.executescript(
            f"""
            CREATE TABLE model_versions (name, version, source, current_stage, creation_time);
            CREATE TABLE model_version_tags (name, version, key, value);
            CREATE TABLE registered_model_aliases (name, version, alias);
            INSERT INTO model_versions VALUES ('tiny', 1, 'models:/m-1', 'None', 1);
            INSERT INTO model_version_tags VALUES ('tiny', 1, 'modelmill.bundle', '{bundle}');
            INSERT INTO registered_model_aliases VALUES ('tiny', 1, 'champion');
            """
        )


def test_a_champion_whose_files_are_gone_is_told_once_and_served_when_they_are_back(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    champion(settings, "b" * 64)
    bento = Hand(settings.home).bento("abc", "b" * 64, model="tiny")
    graph = bento / "src" / "bundle" / "onnx" / "model.onnx"
    graph.parent.mkdir(parents=True)
    graph.write_text("a graph")
    write_file_list(bento / "src")
    graph.unlink()

    def checked(settings: Settings, served: ServedModel) -> Backend:
        check_bento_files(bentos_folder(settings) / served.bento)
        return small(settings, served)

    async def check() -> None:
        async with keeping_up(settings, checked) as endpoint:
            await endpoint.until("failed")
            answer = (await endpoint.client.get("/")).json()["error"]["message"]
            assert "modelmill:abc is damaged: bundle/onnx/model.onnx is gone; run the" in answer
            await asyncio.sleep(1.0)
            assert STARTED == []
            graph.write_text("a graph")
            await endpoint.until("abc")
            graph.unlink()
            STARTED[-1].server.process.kill()
            await endpoint.until("failed")
            assert len(STARTED) == 1
            graph.write_text("a graph")
            await endpoint.until("abc")

    asyncio.run(check())
    assert capsys.readouterr().err.count("is damaged") == 2  # a line each time it breaks


async def ask_for_ever(client: httpx.AsyncClient, stream: bool, ended: asyncio.Event) -> list[str]:
    """Ask in a loop over endpoint connections, without a second try; the answers' texts."""
    texts = []
    asked = {
        "model": "tiny", "messages": [{"role": "user", "content": "json?"}],
        "max_tokens": 24, "temperature": 0, "stream": stream,
    }  # fmt: skip
    while not ended.is_set():
        answer = await client.post("/v1/chat/completions", json=asked)
        assert answer.status_code == 200, answer.text
        if not stream:
            texts.append(answer.json()["choices"][0]["message"]["content"])
            continue
        events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
        assert events[-1] == "[DONE]"
        pieces = [json.loads(event)["choices"][0]["delta"] for event in events[:-1]]
        texts.append("".join(piece.get("content", "") for piece in pieces))
    return texts


def test_no_request_is_lost_while_real_bentos_are_switched(
    settings: Settings, bundle_files: Path
) -> None:
    work = Workdir.temporary(settings.store, "components.export.bundle.bundle")
    shutil.copytree(bundle_files, work.folder, dirs_exist_ok=True)
    bundle = work.seal(Bundle)
    nobody = Lineage(component="x", code="", config="")
    made = [
        package(
            PackageConfig(limits=EndpointLimits(slots=8, threads=1)),
            ModelVersion(name=f"models:/tiny/{number}", digest="1" * 64, lineage=nobody),
            bundle,
            Workspace(settings),
        ).artifact.name.rpartition("/")[2]
        for number in (2, 1)
    ]
    champion(settings, bundle.digest)
    new, old = ServedModel("tiny", "2", made[0]), ServedModel("tiny", "1", made[1])

    async def check() -> None:
        async with keeping_up(settings, start_backend) as endpoint:
            while not (await endpoint.client.get("/readyz")).is_success:
                await asyncio.sleep(0.1)
            status = endpoint.promoter.read_status()
            assert status is not None
            assert status.serving == old  # the champion's, found by the manager itself
            ended = asyncio.Event()
            asking = [
                asyncio.create_task(ask_for_ever(endpoint.client, stream, ended))
                for stream in (True, False, True, False)
            ]
            for served in (new, old):
                await asyncio.to_thread(endpoint.promoter.prepare, served, 60)
                await asyncio.to_thread(endpoint.promoter.switch, served, 10)
                await asyncio.sleep(0.5)
                assert all(not task.done() for task in asking)
            ended.set()
            texts = [text for task in asking for text in await task]
            assert len(texts) > 20
            assert len(set(texts)) == 1  # whole, every one
            mark = endpoint.manager.serving
            assert mark is not None
            assert mark.served == old
            servers = find_marked_processes(SERVER_MARK, {mark.server.mark})
        assert not [process for process in servers if process.is_running()]

    asyncio.run(check())
