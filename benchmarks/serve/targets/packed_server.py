"""Servers that are measured: Modelmill's from a packed Bento, and a peer's from its program."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serve.targets.served_models import FORM, MODEL_NAME, BenchModel
from components.core.action import Workspace
from components.core.settings import Settings
from components.core.store.artifact import Bento, Bundle, Lineage, ModelVersion, digest_value
from components.core.store.workdir import Workdir
from components.core.workspace_layout import mark_layout
from serving.api.limits import EndpointLimits
from serving.bento.build_bento import PackageConfig, package
from serving.gateway.server_process import (
    check_alive,
    not_ready_error,
    spawn_server,
    stop_server,
)

OURS = "Modelmill"
BENCH_LIMITS = EndpointLimits(slots=16, queue=1024, wait_seconds=600, threads=1, guesses=False)
"""One thread, 16 streams at a time, no request of a round refused, and nothing guessed: random
weights repeat themselves, so that their answers would come several tokens a step."""
_READY_SECONDS = 120.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class MeasuredServer:
    """A server that answers completions, and the processes that are charged for it."""

    name: str
    port: int
    pid: int
    """Of its first process; its children count as well."""

    def processor_seconds(self) -> float:
        """User and system time of all its processes so far."""
        first = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (first, *first.children(recursive=True))]
        return sum(taken.user + taken.system for taken in times)

    def resident_bytes(self) -> int:
        """Memory of its own of all its processes."""
        first = psutil.Process(self.pid)
        processes = (first, *first.children(recursive=True))
        return sum(process.memory_full_info().uss for process in processes)


def pack_model(
    home: Path, model: BenchModel, version: int = 1, limits: EndpointLimits = BENCH_LIMITS
) -> Bento:
    """Pack a model in a workspace of its own, by the action that a run packs with.

    Args:
        home: folder of the workspace.
        model: the model.
        version: its number; another one is another Bento.
        limits: bounds of the endpoint.

    Raises:
        MillError: building failed.
    """
    mark_layout(home)
    workspace = Workspace(Settings(home=home, reference_data=home))
    work = Workdir.temporary(workspace.settings.store, "components.export.bundle.bundle")
    shutil.copytree(model.bundle, work.folder, dirs_exist_ok=True)
    bundle = work.seal(Bundle)
    lineage = Lineage(component="bench", code="", config="")
    name = f"models:/{MODEL_NAME}/{version}"
    registered = ModelVersion(name=name, digest=digest_value(name), lineage=lineage)
    config = PackageConfig(form=FORM, limits=limits)
    return package(config, registered, bundle, workspace).artifact


@contextmanager
def serve_packed(home: Path, bento: Bento) -> Iterator[MeasuredServer]:
    """Serve a packed model on a free port; nothing of it runs afterwards.

    Args:
        home: folder of its workspace.
        bento: what ``pack_model`` made.

    Raises:
        MillError: it ended, or was not ready in time.
    """
    workspace = Workspace(Settings(home=home, reference_data=home))
    folder = workspace.artifact_folder(bento).resolve()
    environment = {"BENTOML_HOME": str(workspace.settings.bentos)}
    server = spawn_server(folder, workspace.settings.logs / "server.log", environment)
    try:
        import httpx

        deadline = time.monotonic() + _READY_SECONDS
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            while True:
                check_alive(server)
                try:
                    if client.get(server.ready_address).is_success:
                        break
                except httpx.TransportError:
                    if time.monotonic() > deadline:
                        raise not_ready_error(server, _READY_SECONDS) from None
                time.sleep(_POLL_SECONDS)
        yield MeasuredServer(OURS, server.port, server.process.pid)
    finally:
        stop_server(server)
