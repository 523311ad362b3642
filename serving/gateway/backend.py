"""One Bento's server beside others: started, waited for, looked after, ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from components.core.errors import MillError
from components.core.settings import Settings
from components.publish.bento_folders import bentos_folder, check_whole
from components.publish.promotion.endpoint_swap import Served
from serving.engine.served_folder import read_endpoint
from serving.gateway.reverse_proxy import Target
from serving.gateway.server_process import GAVE_UP, Server, check, late, spawn, stop, tail

_POLL_SECONDS = 0.05
_ASK_SECONDS = 2.0


@dataclass(eq=False)
class Backend:
    """A running server of one model."""

    served: Served
    server: Server
    target: Target
    began: float = field(default_factory=time.monotonic)
    _read: int = 0
    """How much of the log has been looked at."""

    async def ready(self, seconds: float) -> None:
        """Wait until it answers.

        Raises:
            MillError: it ended, gave up or was not ready in time; with its last words.
        """
        import httpx

        deadline = time.monotonic() + seconds
        async with httpx.AsyncClient(trust_env=False, timeout=_ASK_SECONDS) as client:
            while time.monotonic() < deadline:
                check(self.server)
                with suppress(httpx.TransportError):  # it does not listen yet
                    if (await client.get(self.server.ready_address)).is_success:
                        return
                await asyncio.sleep(_POLL_SECONDS)
        raise late(self.server, seconds)

    def fault(self) -> str | None:
        """Why it serves no more: it ended, or its supervisor starts a broken worker for ever."""
        if self.server.process.poll() is not None:
            return f"it ended ({self.server.process.returncode}); it said: {tail(self.server.log)}"
        with self.server.log.open("rb") as file:
            file.seek(self._read)
            news = file.read()
        self._read += max(len(news) - len(GAVE_UP), 0)  # the words may come in two pieces
        return f"it cannot start; it said: {tail(self.server.log)}" if GAVE_UP in news else None

    async def stop(self) -> None:
        """End it with all that it started."""
        await asyncio.to_thread(stop, self.server)


Start = Callable[[Settings, Served], Backend]


def start(settings: Settings, served: Served) -> Backend:
    """Start the server of a packed model; it ends with this process.

    Raises:
        DataError: there is no such Bento, or a file of it is gone or has another size.
        MillError: it holds another model.
    """
    folder = bentos_folder(settings) / served.bento
    check_whole(folder)
    endpoint = read_endpoint(folder / "src")
    if endpoint.model != served.model:
        raise MillError(f"Bento {served.bento} holds {endpoint.model}, not {served.model}")
    log = settings.logs / f"endpoint-{served.bento}.log"
    server = spawn(folder, log, {"BENTOML_HOME": str(settings.bentos)})
    return Backend(served, server, Target(server.port))
