"""uvicorn's server that lets answers in progress end before it stops.

uvicorn stops listening at SIGTERM and then waits for open connections without a bound, or cancels
their tasks, which cuts a stream in the middle. Here a server that is told to end goes on listening
and answers 503, so that load balancers see it go; what is answered goes on within a bound, and
what is left then ends by an error in OpenAI's shape.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType
from typing import Any, Protocol

import uvicorn

from components.core.endpoint_settings import drain_seconds

DRAINED = "drained"
"""Key in the state of uvicorn's lifespan: the ``DrainedApplication``."""
_POLL_SECONDS = 0.05
_LAST_SECONDS = 1
"""For the last errors to be written, and for slow readers to take them."""
log = logging.getLogger("uvicorn.error")


class DrainedApplication(Protocol):
    """An application that can begin nothing more and end what it answers."""

    @property
    def unfinished(self) -> int:
        """Answers that are not finished, WebSockets' among them."""
        ...

    def refuse_requests(self) -> None:
        """Answer 503 from now on."""
        ...

    def end_answers(self) -> None:
        """End what is answered by an error."""
        ...


class DrainingServer(uvicorn.Server):
    """Drains at SIGTERM; SIGINT ends the answers at once."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.drain_seconds = drain_seconds()
        self._hurries = False

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note a signal; a second SIGINT leaves without waiting for anything.

        Args:
            sig: its number.
            frame: where it came.
        """
        if sig == signal.SIGINT and not self._hurries:
            self._hurries = self.should_exit = True
        else:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain, then close all connections."""
        application: DrainedApplication | None = self.lifespan.state.get(DRAINED)
        if application is not None:
            application.refuse_requests()
            await self._wait_answers(application, self.drain_seconds)
            if cut := self._count_unfinished(application):
                log.warning("%d answers are cut: the time to end is over", cut)
                application.end_answers()
                self._hurries = False  # the end is written, however hurried
                await self._wait_answers(application, _LAST_SECONDS)
        self.config.timeout_graceful_shutdown = _LAST_SECONDS
        await super().shutdown(sockets)

    async def _wait_answers(self, application: DrainedApplication, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline and not (self._hurries or self.force_exit):
            if not self._count_unfinished(application):
                await asyncio.sleep(_POLL_SECONDS)  # a WebSocket writes its last message
                if not self._count_unfinished(application):
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def _count_unfinished(self, application: DrainedApplication) -> int:
        """Answers that are not with their clients yet, by connections or by the engine."""
        connections = sum(map(_is_answering, self.server_state.connections))
        return max(connections, application.unfinished)


def _is_answering(connection: Any) -> bool:
    """An HTTP connection owes an answer; a WebSocket has messages that are not sent."""
    cycle = getattr(connection, "cycle", None)
    if cycle is not None:
        return not cycle.response_complete or bool(connection.pipeline)
    transport = connection.transport
    return transport is not None and transport.get_write_buffer_size() > 0


def install_draining_server() -> None:
    """Have BentoML's worker, which makes uvicorn's server itself, serve by this one."""
    uvicorn.Server = DrainingServer  # type: ignore[misc]
