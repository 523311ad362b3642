"""Server of one Bento beside others: start, readiness, faults, end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from components.core.errors import MillError
from components.core.settings import Settings
from components.publish.bento_folders import bentos_folder, check_bento_files
from components.publish.promotion.endpoint_swap import ServedModel
from serving.engine.served_folder import read_endpoint
from serving.gateway.reverse_proxy import ProxyTarget
from serving.gateway.server_process import (
    GAVE_UP,
    STOP_SECONDS,
    ServerProcess,
    check_alive,
    cut_answers,
    log_tail,
    not_ready_error,
    spawn_server,
    stop_server,
)

_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0
_IDLE_STOP_SECONDS = 1.0
"""For a server to end that answers nothing; then it is killed."""


@dataclass(eq=False)
class Backend:
    """A running server of one model."""

    served: ServedModel
    server: ServerProcess
    target: ProxyTarget
    began: float = field(default_factory=time.monotonic)
    _was_ready: bool = False
    _log_offset: int = 0
    """Bytes of the log that have been looked at."""

    async def wait_ready(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            MillError: it ended, gave up or was not ready in time; with its last words.
        """
        import httpx

        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(trust_env=False, timeout=_ASK_SECONDS) as client:
            while time.monotonic() < deadline:
                check_alive(self.server)
                with suppress(httpx.TransportError):  # it does not listen yet
                    if (await client.get(self.server.ready_address)).is_success:
                        self._was_ready = True
                        return
                await asyncio.sleep(_POLL_SECONDS)
        raise not_ready_error(self.server, seconds)

    def find_fault(self) -> str | None:
        """Reason why it serves no more: it ended, or its worker cannot start."""
        if self.server.process.poll() is not None:
            return (
                f"it ended ({self.server.process.returncode}); it said: {log_tail(self.server.log)}"
            )
        with self.server.log.open("rb") as file:
            file.seek(self._log_offset)
            news = file.read()
        self._log_offset += max(len(news) - len(GAVE_UP), 0)  # the words may come in two pieces
        return f"it cannot start; it said: {log_tail(self.server.log)}" if GAVE_UP in news else None

    async def stop(self) -> None:
        """End it with all that it started; what it still answers is cut."""
        if self._was_ready:  # before, a worker would answer with a traceback
            await asyncio.to_thread(cut_answers, self.server)
        await asyncio.to_thread(stop_server, self.server)

    async def drain(self, seconds: float) -> None:
        """End it once its answers have; what is left after a while is cut.

        Args:
            seconds: longest that its answers go on.
        """
        longest = seconds + STOP_SECONDS if self.target.active else _IDLE_STOP_SECONDS
        await asyncio.to_thread(stop_server, self.server, longest)


BackendFactory = Callable[[Settings, ServedModel], Backend]


def start_backend(settings: Settings, served: ServedModel) -> Backend:
    """Start the server of a packed model; it ends with this process.

    Raises:
        DataError: there is no such Bento, or a file of it is gone or has another size.
        MillError: it holds another model.
    """
    folder = bentos_folder(settings) / served.bento
    check_bento_files(folder)
    endpoint = read_endpoint(folder / "src")
    if endpoint.model != served.model:
        raise MillError(f"Bento {served.bento} holds {endpoint.model}, not {served.model}")
    log = settings.logs / f"endpoint-{served.bento}.log"
    server = spawn_server(folder, log, {"BENTOML_HOME": str(settings.bentos)})
    return Backend(served, server, ProxyTarget(server.port))
