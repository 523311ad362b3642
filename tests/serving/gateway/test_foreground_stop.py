"""``serve`` of a real Bento, told to end while it answers."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from components.core.action import Workspace
from components.core.process.ports import free_port
from components.core.settings import Settings
from components.core.store.artifact import Bundle, Lineage, ModelVersion
from components.core.store.workdir import Workdir
from components.publish.bento_folders import bentos_folder
from serving.api.limits import EndpointLimits
from serving.bento.bento_sources import ROOT
from serving.bento.build_bento import PackageConfig, package

STREAMS, CHOICES = 12, 6


@pytest.fixture(scope="module")
def bento(bundle_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed model that answers one after another, so that its answers take a while."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, reference_data=home)
    work = Workdir.temporary(settings.store, "components.export.bundle.bundle")
    shutil.copytree(bundle_files, work.folder, dirs_exist_ok=True)
    nobody = Lineage(component="x", code="", config="")
    made = package(
        PackageConfig(limits=EndpointLimits(slots=1, threads=1, queue=1000, wait_seconds=600)),
        ModelVersion(name="models:/tiny/1", digest="1" * 64, lineage=nobody),
        work.seal(Bundle),
        Workspace(settings),
    )
    return bentos_folder(settings) / made.artifact.name.rpartition("/")[2]


def ask(address: str) -> str:
    """A stream to its orderly end."""
    body: dict[str, object] = {"model": "tiny", "prompt": "a", "max_tokens": 90, "n": CHOICES}
    body |= {"stream": True, "ignore_eos": True}
    return httpx.post(f"{address}/v1/completions", json=body, timeout=60).text


def stop_under_load(bento: Path, sign: signal.Signals) -> tuple[list[str], int]:
    """What the clients of a server heard that was told to end, and its exit code."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "serving.gateway.foreground", str(bento), "127.0.0.1"]
    home = {"BENTOML_HOME": str(bento.parents[2])}
    with (
        subprocess.Popen(
            [*command, str(port)], cwd=ROOT, env={**os.environ, **home}, start_new_session=True
        ) as serving,
        ThreadPoolExecutor(STREAMS) as pool,
    ):
        try:
            state: dict[str, Any] = {}
            while state.get("status") != "ok":
                assert serving.poll() is None
                time.sleep(0.1)
                state = describe(address)
            asked = [pool.submit(ask, address) for _ in range(STREAMS)]
            while describe(address)["engine"]["waiting"] < STREAMS * CHOICES // 2:
                assert not all(answer.done() for answer in asked)
            serving.send_signal(sign)
            return [answer.result(60) for answer in asked], serving.wait(60)
        finally:
            serving.kill()


def describe(address: str) -> dict[str, Any]:
    try:
        state: dict[str, Any] = httpx.get(f"{address}/health").json()
    except httpx.TransportError:
        return {}
    return state


def test_sigterm_lets_all_answers_end(bento: Path) -> None:
    said, code = stop_under_load(bento, signal.SIGTERM)
    assert [text.endswith("data: [DONE]\n\n") for text in said] == [True] * STREAMS
    assert code == 128 + signal.SIGTERM


def test_ctrl_c_cuts_them_by_an_error(bento: Path) -> None:
    said, code = stop_under_load(bento, signal.SIGINT)
    cut = [text for text in said if "[DONE]" not in text]
    assert cut
    for text in cut:
        last = json.loads(text.rpartition("data: ")[2])
        assert last["error"]["code"] == "server_stopping"
    assert code == 128 + signal.SIGINT
