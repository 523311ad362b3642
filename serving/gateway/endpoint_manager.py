"""Manager of the champion's endpoint, started by ``up``: ``python -m`` this with PORT [MODEL].

It serves the champion of MODEL alone; without one it begins with the champion that moved last.

The public port is the reverse proxy's (``reverse_proxy.py``); behind it a Bento's server runs on a
private loopback port. A promotion asks through ``components/publish/promotion/endpoint_swap.py``:

    prepare   the new Bento is started beside the present one; answered when it is ready
    switch    new requests go to the new one; the old one finishes what it answers, then ends
    drop      the prepared one is ended

So there are two copies of a model during a switch alone. Without a champion the manager waits for
one. A server that dies is started again, ``RESTARTS`` times in a row at most. When the manager
ends, answers in progress go on for a while (``drain_seconds``), and new requests get 503.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

from components.core import log
from components.core.endpoint_settings import drain_seconds
from components.core.errors import DataError, MillError, error_line
from components.core.process.failure_line import load_settings_or_exit
from components.core.process.process_tree import process_start_time
from components.core.settings import Settings
from components.publish.bento_folders import choose_champion
from components.publish.promotion.endpoint_swap import (
    EndpointStatus,
    EndpointSwap,
    ServedModel,
    SwapRequest,
)
from serving.gateway.backend import Backend, BackendFactory, start_backend
from serving.gateway.reverse_proxy import STARTING, ReverseProxy, UnservedReason
from serving.serve_model import find_bento

RESTARTS = 5
"""Starts in a row, with growing pauses, before a server that dies is given up."""
DRAIN_SECONDS = 60.0
"""Longest that a replaced server goes on answering what it has begun."""
_READY_SECONDS = 120.0
_STEADY_SECONDS = 60.0
"""A server that ran this long is no longer one that dies at once."""
_UNUSED_SECONDS = 600.0
"""A prepared model that nobody switches to is given up after this long."""
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0

NO_CHAMPION = UnservedReason(
    "no_champion", "No model is served yet: there is no champion; `modelmill status` says why."
)
FAILED = UnservedReason(
    "failed", "The champion's server does not start; the operator's log says why."
)


STOPPING = UnservedReason("server_stopping", "The server is being stopped.")


class EndpointManager:
    """State of an endpoint: the served and the prepared backend, and their changes."""

    def __init__(
        self,
        settings: Settings,
        proxy: ReverseProxy,
        start: BackendFactory = start_backend,
        only: str | None = None,
    ) -> None:
        self.settings, self.proxy = settings, proxy
        self.only = only
        self.swap = EndpointSwap(settings)
        self.serving: Backend | None = None
        self.prepared: Backend | None = None
        self.failures = 0
        self._start = start
        self._wanted_model: ServedModel | None = None
        """To be served, also while its server is down."""
        self._token: str | None = None
        self._error: str | None = None
        self._last_status: EndpointStatus | None = None
        self._last_token: str | None = None
        self._next_try = 0.0
        self._request: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._draining: dict[asyncio.Task[None], Backend] = {}
        self._process_identity = (os.getpid(), process_start_time(os.getpid()))

    async def run(self, ended: asyncio.Event) -> None:
        """Follow requests and watch the server until ``ended``; nothing is left running."""
        self._report_status()
        try:
            while not ended.is_set():
                await self._poll_request()
                await self._watch_servers()
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await self._shut_down()

    async def _poll_request(self) -> None:
        """Take up the newest request; an older one that is not met yet is given up."""
        try:
            wanted = self.swap.read_request()
        except MillError as error:
            _log_line(str(error))
            return
        if wanted is None or wanted.token == self._last_token:
            return
        self._last_token = wanted.token
        await _cancel(self._request)
        self._request = asyncio.create_task(self._answer_request(wanted))

    async def _answer_request(self, wanted: SwapRequest) -> None:
        error: str | None = None
        try:
            if wanted.phase == "drop":
                await self._drop(wanted.served)
            else:
                await self._prepare(wanted.served)
            if wanted.phase == "switch":
                await self._switch(wanted.served)
        except (MillError, OSError) as failed:
            error = error_line(failed)
        _log_line(f"{wanted.phase} {wanted.served}: {error or 'done'}")
        self._token, self._error = wanted.token, error
        self._report_status()

    async def _prepare(self, served: ServedModel) -> None:
        """Have ``served`` ready beside the present one."""
        if _serves(self.serving, served) or _serves(self.prepared, served):
            return
        await self._drop(None)
        for draining, backend in list(self._draining.items()):
            if backend.served == served:  # back to what was served a moment ago
                await _cancel(draining)
                self.prepared = backend
                return
        await asyncio.gather(*self._draining)  # never three copies of a model
        self.prepared = await self._start_backend(served)

    async def _start_backend(self, served: ServedModel) -> Backend:
        backend = self._start(self.settings, served)
        try:
            await backend.wait_ready(_READY_SECONDS)
        except BaseException:
            await asyncio.shield(backend.stop())
            raise
        return backend

    async def _switch(self, served: ServedModel) -> None:
        """New requests go to the prepared one."""
        if _serves(self.serving, served):
            return
        await _cancel(self._starting)
        old, self.serving, self.prepared = self.serving, self.prepared, None
        self.failures = 0
        self._publish_backend()
        if old is not None:
            task = asyncio.create_task(self._drain(old))
            self._draining[task] = old
            task.add_done_callback(lambda done: self._draining.pop(done, None))

    def _publish_backend(self) -> None:
        assert self.serving is not None
        self._wanted_model = self.serving.served
        self.proxy.target = self.serving.target
        self._report_status()
        _log_line(f"serving {self._wanted_model} ({self._wanted_model.bento})")

    async def _drain(self, old: Backend) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while old.target.active and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        # From here on it cannot be taken back.
        self._draining = {t: b for t, b in self._draining.items() if b is not old}
        cut = old.target.active
        await old.stop()
        _log_line(f"ended {old.served}" + (f"; {cut} answers were cut" if cut else ""))

    async def _drop(self, served: ServedModel | None) -> None:
        """End what is prepared (only ``served``, if given)."""
        backend = self.prepared
        if backend is None or served not in (None, backend.served):
            return
        self.prepared = None
        self._report_status()
        await asyncio.shield(backend.stop())

    async def _watch_servers(self) -> None:
        """Notice a server that died; start what should be served and is not."""
        now = time.monotonic()
        if self.prepared is not None:
            fault = self.prepared.find_fault()
            unused = now - self.prepared.began > _UNUSED_SECONDS and _is_idle(self._request)
            if fault or unused:
                _log_line(f"gives {self.prepared.served} up: {fault or 'nobody switched to it'}")
                await self._drop(None)
        if self.serving is not None:
            fault = self.serving.find_fault()
            if fault is not None:
                await self._lose_server(self.serving, fault)
            elif now - self.serving.began > _STEADY_SECONDS:
                self.failures = 0
        elif _is_idle(self._starting) and now >= self._next_try:
            self._starting = asyncio.create_task(self._start_champion())

    async def _lose_server(self, dead: Backend, fault: str) -> None:
        self.serving, self.proxy.target = None, None
        self._count_failure(dead.served, fault)
        self._report_status()
        await dead.stop()

    def _count_failure(self, served: ServedModel, why: str) -> None:
        """Count a failure: the next try comes later each time, and not without end."""
        self.failures += 1
        pause = min(2.0 ** (self.failures - 1), 30.0)
        self._next_try = time.monotonic() + pause
        self.proxy.unserved = FAILED if self.failures > RESTARTS else STARTING
        after = f"again in {pause:g} s ({self.failures} of {RESTARTS})"
        _log_line(f"{served} fails: {why}; {'gives up' if self.failures > RESTARTS else after}")

    async def _start_champion(self) -> None:
        """Start what was served before, else the champion.

        A champion that failed too often waits for another one.
        """
        given_up = self.failures > RESTARTS
        self._next_try = time.monotonic() + _LOOK_SECONDS
        try:
            look = given_up or self._wanted_model is None
            served = await asyncio.to_thread(self._find_champion) if look else self._wanted_model
        except MillError as error:
            self._report_unserved(error)
            return
        if served is None:
            self.proxy.unserved = NO_CHAMPION
        if served is None or (given_up and served == self._wanted_model):
            return
        if served != self._wanted_model:
            self._wanted_model, self.failures, self.proxy.unserved = served, 0, STARTING
        try:
            self.serving = await self._start_backend(served)
        except DataError as error:  # no start mends its files; whoever does is noticed
            self._wanted_model = None
            self._report_unserved(error)
            return
        except (MillError, OSError) as error:
            self._count_failure(served, str(error))
            return
        self._publish_backend()

    def _report_unserved(self, error: MillError) -> None:
        """Answer requests with the reason why nothing is served, and log it once."""
        unserved = UnservedReason("failed", f"The champion cannot be served: {error}")
        if self.proxy.unserved != unserved:
            _log_line(unserved.message)
        self.proxy.unserved = unserved

    def _find_champion(self) -> ServedModel | None:
        entry = choose_champion(self.settings, self.only)
        if entry is None:
            return None
        folder = find_bento(self.settings, entry)
        return ServedModel(entry.model, str(entry.version), folder.name)

    def _report_status(self) -> None:
        serving = None if self.serving is None else self.serving.served
        prepared = None if self.prepared is None else self.prepared.served
        status = EndpointStatus(
            *self._process_identity, serving, prepared, self._token, self._error, self.only
        )
        if status != self._last_status:
            self.swap.report_status(status)
            self._last_status = status

    async def _shut_down(self) -> None:
        self.proxy.target, self.proxy.unserved = None, STOPPING
        await _cancel(self._request)
        await _cancel(self._starting)
        running = [self.serving, self.prepared, *self._draining.values()]
        for task in list(self._draining):
            await _cancel(task)
        left = [backend for backend in running if backend is not None]
        seconds = drain_seconds()
        draining: list[Coroutine[Any, Any, None]] = [backend.drain(seconds) for backend in left]
        await asyncio.gather(*draining)


def _serves(backend: Backend | None, served: ServedModel) -> bool:
    return backend is not None and backend.served == served


def _is_idle(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


async def _cancel(task: asyncio.Task[None] | None) -> None:
    """End a task and wait for that."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _log_line(what: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    sys.stderr.write(f"{now} {log.mask_secrets(what)}\n")
    sys.stderr.flush()


async def run_endpoint_manager(settings: Settings, port: int, only: str | None = None) -> None:
    """Listen on ``port`` and manage the endpoint until SIGTERM or SIGINT.

    Args:
        settings: workspace whose champion is served.
        port: port on loopback, public to callers.
        only: the one registered model to serve; None follows the champion that moved last.

    Raises:
        OSError: the port is taken.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ended.set)
    proxy = ReverseProxy()
    await proxy.listen(port)
    _log_line(f"listening on port {port}")
    try:
        await EndpointManager(settings, proxy, only=only).run(ended)
    finally:
        await proxy.close()


if __name__ == "__main__":
    log.configure_logging()
    try:
        asyncio.run(run_endpoint_manager(load_settings_or_exit(), int(sys.argv[1]), *sys.argv[2:3]))
    except OSError as taken:
        sys.exit(f"port {sys.argv[1]}: {(taken.strerror or str(taken)).lower()}")
