"""Manager of the champion's endpoint, started by ``up``: ``python -m`` this with PORT [MODEL].

It serves the champion of MODEL alone; without one it begins with the champion that moved last.

The public port is the front's (``front.py``); behind it a Bento's server runs on a private
loopback port. A promotion asks through ``components/publish/promotion/endpoint_swap.py``:

    prepare   the new Bento is started beside the present one; answered when it is ready
    switch    new requests go to the new one; the old one finishes what it answers, then ends
    drop      the prepared one is ended

So there are two copies of a model during a switch alone. Without a champion the keeper waits for
one. A server that dies is started again, ``RESTARTS`` times in a row at most.
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

from components.core import log, settings
from components.core.errors import DataError, MillError
from components.core.process.process_tree import create_time
from components.core.settings import Settings
from components.publish.bento_folders import champion_to_serve
from components.publish.promotion.endpoint_swap import Handover, Served, Status, Wanted
from serving.gateway.backend import Backend, Start, start
from serving.gateway.reverse_proxy import STARTING, Front, Unserved
from serving.serve_model import find_bento

RESTARTS = 5
DRAIN_SECONDS = 60.0
_LAST_SECONDS = 2.0
"""For answers in progress when the keeper itself ends."""
_READY_SECONDS = 120.0
_STEADY_SECONDS = 60.0
"""A server that ran this long is no longer one that dies at once."""
_UNUSED_SECONDS = 600.0
"""A prepared model that nobody switches to is given up."""
_POLL_SECONDS = 0.1
_LOOK_SECONDS = 1.0

NO_CHAMPION = Unserved(
    "no_champion", "No model is served yet: there is no champion; `modelmill status` says why."
)
FAILED = Unserved("failed", "The champion's server does not start; the operator's log says why.")


class Keeper:
    """What is served, what is prepared, and how they change."""

    def __init__(
        self, found: Settings, front: Front, start: Start = start, only: str | None = None
    ) -> None:
        self.settings, self.front = found, front
        self.only = only
        self.handover = Handover(found)
        self.serving: Backend | None = None
        self.prepared: Backend | None = None
        self.failures = 0
        self._start = start
        self._kept: Served | None = None
        """What is to be served, also while its server is down."""
        self._token: str | None = None
        self._error: str | None = None
        self._told: Status | None = None
        self._seen: str | None = None
        self._next_try = 0.0
        self._request: asyncio.Task[None] | None = None
        self._raising: asyncio.Task[None] | None = None
        self._draining: dict[asyncio.Task[None], Backend] = {}
        self._me = (os.getpid(), create_time(os.getpid()))

    async def run(self, ended: asyncio.Event) -> None:
        """Follow requests and mind the server until ``ended``; nothing is left running."""
        self._tell()
        try:
            while not ended.is_set():
                await self._follow()
                await self._mind()
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            await self._end()

    async def _follow(self) -> None:
        """Take the newest request up; an older one that is not met yet is given up."""
        try:
            wanted = self.handover.wanted()
        except MillError as error:
            _say(str(error))
            return
        if wanted is None or wanted.token == self._seen:
            return
        self._seen = wanted.token
        await _cancel(self._request)
        self._request = asyncio.create_task(self._meet(wanted))

    async def _meet(self, wanted: Wanted) -> None:
        error: str | None = None
        try:
            if wanted.phase == "drop":
                await self._drop(wanted.served)
            else:
                await self._prepare(wanted.served)
            if wanted.phase == "switch":
                await self._switch(wanted.served)
        except (MillError, OSError) as failed:
            error = " ".join(str(failed).split())
        _say(f"{wanted.phase} {wanted.served}: {error or 'done'}")
        self._token, self._error = wanted.token, error
        self._tell()

    async def _prepare(self, served: Served) -> None:
        """Have ``served`` ready beside the present one."""
        if _is(self.serving, served) or _is(self.prepared, served):
            return
        await self._drop(None)
        for draining, backend in list(self._draining.items()):
            if backend.served == served:  # back to what was served a moment ago
                await _cancel(draining)
                self.prepared = backend
                return
        await asyncio.gather(*self._draining)  # never three copies of a model
        self.prepared = await self._raise(served)

    async def _raise(self, served: Served) -> Backend:
        backend = self._start(self.settings, served)
        try:
            await backend.ready(_READY_SECONDS)
        except BaseException:
            await asyncio.shield(backend.stop())
            raise
        return backend

    async def _switch(self, served: Served) -> None:
        """New requests go to the prepared one."""
        if _is(self.serving, served):
            return
        await _cancel(self._raising)
        old, self.serving, self.prepared = self.serving, self.prepared, None
        self.failures = 0
        self._serve()
        if old is not None:
            task = asyncio.create_task(self._drain(old))
            self._draining[task] = old
            task.add_done_callback(lambda done: self._draining.pop(done, None))

    def _serve(self) -> None:
        assert self.serving is not None
        self._kept = self.serving.served
        self.front.target = self.serving.target
        self._tell()
        _say(f"serving {self._kept} ({self._kept.bento})")

    async def _drain(self, old: Backend) -> None:
        deadline = time.monotonic() + DRAIN_SECONDS
        while old.target.active and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        # From here on it cannot be taken back.
        self._draining = {t: b for t, b in self._draining.items() if b is not old}
        cut = old.target.active
        await old.stop()
        _say(f"ended {old.served}" + (f"; {cut} answers were cut" if cut else ""))

    async def _drop(self, served: Served | None) -> None:
        """End what is prepared (only ``served``, if given)."""
        backend = self.prepared
        if backend is None or served not in (None, backend.served):
            return
        self.prepared = None
        self._tell()
        await asyncio.shield(backend.stop())

    async def _mind(self) -> None:
        """Notice a server that died; start what should be served and is not."""
        now = time.monotonic()
        if self.prepared is not None:
            fault = self.prepared.fault()
            unused = now - self.prepared.began > _UNUSED_SECONDS and _over(self._request)
            if fault or unused:
                _say(f"gives {self.prepared.served} up: {fault or 'nobody switched to it'}")
                await self._drop(None)
        if self.serving is not None:
            fault = self.serving.fault()
            if fault is not None:
                await self._lose(self.serving, fault)
            elif now - self.serving.began > _STEADY_SECONDS:
                self.failures = 0
        elif _over(self._raising) and now >= self._next_try:
            self._raising = asyncio.create_task(self._begin())

    async def _lose(self, dead: Backend, fault: str) -> None:
        self.serving, self.front.target = None, None
        self._fail(dead.served, fault)
        self._tell()
        await dead.stop()

    def _fail(self, served: Served, why: str) -> None:
        """Count a failure: the next try comes later each time, and not without end."""
        self.failures += 1
        pause = min(2.0 ** (self.failures - 1), 30.0)
        self._next_try = time.monotonic() + pause
        self.front.unserved = FAILED if self.failures > RESTARTS else STARTING
        after = f"again in {pause:g} s ({self.failures} of {RESTARTS})"
        _say(f"{served} fails: {why}; {'gives up' if self.failures > RESTARTS else after}")

    async def _begin(self) -> None:
        """Start what was served before, else the champion; a champion that failed waits for
        another."""
        given_up = self.failures > RESTARTS
        self._next_try = time.monotonic() + _LOOK_SECONDS
        try:
            look = given_up or self._kept is None
            served = await asyncio.to_thread(self._champion) if look else self._kept
        except MillError as error:
            self._refuse(error)
            return
        if served is None:
            self.front.unserved = NO_CHAMPION
        if served is None or (given_up and served == self._kept):
            return
        if served != self._kept:
            self._kept, self.failures, self.front.unserved = served, 0, STARTING
        try:
            self.serving = await self._raise(served)
        except DataError as error:  # no start mends its files; whoever does is noticed
            self._kept = None
            self._refuse(error)
            return
        except (MillError, OSError) as error:
            self._fail(served, str(error))
            return
        self._serve()

    def _refuse(self, error: MillError) -> None:
        """Answer why nothing is served, and say it once."""
        unserved = Unserved("failed", f"The champion cannot be served: {error}")
        if self.front.unserved != unserved:
            _say(unserved.message)
        self.front.unserved = unserved

    def _champion(self) -> Served | None:
        entry = champion_to_serve(self.settings, self.only)
        if entry is None:
            return None
        folder = find_bento(self.settings, entry)
        return Served(entry.model, str(entry.version), folder.name)

    def _tell(self) -> None:
        serving = None if self.serving is None else self.serving.served
        prepared = None if self.prepared is None else self.prepared.served
        status = Status(*self._me, serving, prepared, self._token, self._error, self.only)
        if status != self._told:
            self.handover.tell(status)
            self._told = status

    async def _end(self) -> None:
        await _cancel(self._request)
        await _cancel(self._raising)
        running = [self.serving, self.prepared, *self._draining.values()]
        for task in list(self._draining):
            await _cancel(task)
        deadline = time.monotonic() + _LAST_SECONDS
        left = [backend for backend in running if backend is not None]
        while any(b.target.active for b in left) and time.monotonic() < deadline:
            await asyncio.sleep(_POLL_SECONDS)
        self.front.target = None
        stopping: list[Coroutine[Any, Any, None]] = [backend.stop() for backend in left]
        await asyncio.gather(*stopping)


def _is(backend: Backend | None, served: Served) -> bool:
    return backend is not None and backend.served == served


def _over(task: asyncio.Task[None] | None) -> bool:
    return task is None or task.done()


async def _cancel(task: asyncio.Task[None] | None) -> None:
    """End a task and wait for that."""
    if task is not None and not task.done():
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _say(what: str) -> None:
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    sys.stderr.write(f"{now} {log.mask(what)}\n")
    sys.stderr.flush()


async def keep(found: Settings, port: int, only: str | None = None) -> None:
    """Listen on ``port`` and keep the endpoint, of one model if told, until SIGTERM or SIGINT.

    Raises:
        OSError: the port is taken.
    """
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, ended.set)
    front = Front()
    await front.listen(port)
    _say(f"listening on port {port}")
    try:
        await Keeper(found, front, only=only).run(ended)
    finally:
        await front.close()


if __name__ == "__main__":
    log.configure()
    try:
        asyncio.run(keep(settings.load(), int(sys.argv[1]), *sys.argv[2:3]))
    except OSError as taken:
        sys.exit(f"port {sys.argv[1]}: {(taken.strerror or str(taken)).lower()}")
