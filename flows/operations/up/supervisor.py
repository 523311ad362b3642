"""Starts services, sees that they answer, starts one again that dies, ends them all.

A service dies with this process, however that ends; what it started itself is found by a mark in
the environment. Circus and supervisor would do this with a daemon, a configuration and a control
socket of their own; this needs none of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from components.core.errors import MillError, error_line
from components.core.process.exec_with_parent import exec_with_parent_command
from components.core.process.process_tree import (
    find_marked_processes,
    kill_processes,
    process_start_time,
    terminate_processes,
)
from components.core.settings import Settings, child_environment
from flows.operations.up.platform_state import (
    FAILED,
    PREFECT,
    RESTARTING,
    SERVICE_MARK,
    SERVICE_NAMES,
    STARTING,
    UP,
    WORKER,
    ServiceState,
    service_mark,
)
from flows.operations.up.services import Service
from serving.gateway.server_process import log_tail

MAX_RESTARTS = 5
_STEADY_SECONDS = 300.0
"""A service that stayed up this long is not one that dies again and again."""
_MAX_PAUSE_SECONDS = 30.0
_POLL_SECONDS = 0.1
_PROBE_INTERVAL_SECONDS = 10.0
_PROBE_TIMEOUT_SECONDS = 10.0
_MAX_SILENT_PROBES = 6
"""Unanswered questions in a row after which a service counts as hung."""
_END_SECONDS = 1.2
_SERVER_END_SECONDS = 2.5
"""All is to end within 5 s: a worker's flow runs, then what is beside the server, then the server,
which still enters what they told it."""
_LEFTOVER_END_SECONDS = 5.0
_MAX_LOG_BYTES = 16 << 20
ROOT = Path(__file__).resolve().parents[3]
"""The checkout: where services are started."""
OnChange = Callable[[ServiceState], None]


class Supervisor:
    """Keeps a list of services; tells ``changed`` each time one's state changes."""

    def __init__(
        self,
        settings: Settings,
        services: Sequence[Service],
        changed: OnChange,
        *,
        limit: float,
        restarts: int = MAX_RESTARTS,
        first_pause: float = 1.0,
    ) -> None:
        self.settings, self._changed = settings, changed
        self._supervised = {service.name: _SupervisedService(service) for service in services}
        self._limit, self._restarts, self._first_pause = limit, restarts, first_pause
        self._tasks: list[asyncio.Task[None]] = []
        self._client = httpx.AsyncClient(trust_env=False, timeout=_PROBE_TIMEOUT_SECONDS)

    @property
    def states(self) -> tuple[ServiceState, ...]:
        """All services as they are now."""
        return tuple(supervised.state for supervised in self._supervised.values())

    async def start(self) -> None:
        """Start all; returns when each answers.

        Raises:
            MillError: one ended or did not answer in time; with its last words.
        """
        self._tasks = [
            asyncio.create_task(self._supervise(supervised))
            for supervised in self._supervised.values()
        ]
        answered = asyncio.create_task(self._all_answered())
        done, _ = await asyncio.wait({answered, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        answered.cancel()

    async def _all_answered(self) -> None:
        for supervised in self._supervised.values():
            await supervised.answered.wait()

    async def end(self) -> None:
        """End all: the server last, so that the others can still tell it; nothing is left."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._client.aclose()
        last = [supervised for name, supervised in self._supervised.items() if name == PREFECT]
        first = [supervised for name, supervised in self._supervised.items() if name != PREFECT]
        for group in (first, last):
            await asyncio.gather(*(self._end_service(supervised) for supervised in group))
        await asyncio.to_thread(end_leftovers, self.settings)

    async def _supervise(self, supervised: _SupervisedService) -> None:
        """One service, for as long as the supervisor runs."""
        if supervised.service.depends_on in self._supervised:
            await self._supervised[supervised.service.depends_on].answered.wait()
        failures = 0
        while True:
            began = time.monotonic()
            why = await self._run_once(supervised)
            await self._end_service(supervised)
            reason = error_line(why)
            if not supervised.answered.is_set():
                raise MillError(f"{supervised.service.title}: {reason}")
            failures = 1 if time.monotonic() - began > _STEADY_SECONDS else failures + 1
            if failures > self._restarts:
                self._update(supervised, state=FAILED, pid=0, note=f"{reason}; given up")
                return
            pause = min(self._first_pause * 2.0 ** (failures - 1), _MAX_PAUSE_SECONDS)
            again = f"{reason}; again in {pause:g} s ({failures} of {self._restarts})"
            self._update(
                supervised,
                state=RESTARTING,
                pid=0,
                note=again,
                restarts=supervised.state.restarts + 1,
            )
            await asyncio.sleep(pause)

    async def _run_once(self, supervised: _SupervisedService) -> str:
        """Start a service and stay with it; why it ended."""
        await self._clean_up(supervised)  # the last end of it may have found no server to tell
        await self._spawn(supervised)
        since = time.time()
        began = time.monotonic()
        while time.monotonic() - began < self._limit:
            if supervised.ended:
                return self._last_words(supervised)
            with suppress(httpx.HTTPError):
                note = await supervised.service.probe(self._client, since)
                if note is not None:
                    seconds = round(time.monotonic() - began, 2)
                    self._update(supervised, state=UP, note=note, seconds=seconds)
                    supervised.answered.set()
                    return await self._watch(supervised, since)
            await asyncio.sleep(_POLL_SECONDS)
        log = self._log(supervised.service.name)
        return f"did not answer within {self._limit:g} s; it said: {log_tail(log)} ({log})"

    async def _watch(self, supervised: _SupervisedService, since: float) -> str:
        """Until a service that answered ends, or answers no more."""
        silent, ask_at = 0, time.monotonic() + _PROBE_INTERVAL_SECONDS
        while not supervised.ended:
            await asyncio.sleep(_POLL_SECONDS)
            if time.monotonic() < ask_at:
                continue
            try:
                note = await supervised.service.probe(self._client, since)
            except httpx.HTTPError:
                note = None
            silent = silent + 1 if note is None else 0
            if note is not None and note != supervised.state.note:
                self._update(supervised, note=note)
            if silent >= _MAX_SILENT_PROBES:
                return f"did not answer {_MAX_SILENT_PROBES} times in a row"
            ask_at = time.monotonic() + _PROBE_INTERVAL_SECONDS
        return self._last_words(supervised)

    async def _spawn(self, supervised: _SupervisedService) -> None:
        service = supervised.service
        log = self._log(service.name)
        with log.open("wb" if _is_big(log) else "ab") as output:
            supervised.log_begins = output.tell()
            supervised.process = await asyncio.create_subprocess_exec(
                *exec_with_parent_command(os.getpid(), service.command),
                cwd=ROOT,
                env=child_environment(self.environment(service.name, service.environment)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        pid = supervised.process.pid
        started = process_start_time(pid)
        self._update(
            supervised, state=STARTING, note="", pid=pid, create_time=started, since=time.time()
        )

    def environment(self, name: str, extra: dict[str, str]) -> dict[str, str]:
        """What is laid over this process's environment for a service."""
        home = {"MODELMILL_HOME": str(self.settings.home)}
        return {**home, **extra, SERVICE_MARK: service_mark(self.settings, name)}

    def _log(self, name: str) -> Path:
        self.settings.logs.mkdir(parents=True, exist_ok=True)
        return self.settings.logs / f"{name}.log"

    def _last_words(self, supervised: _SupervisedService) -> str:
        log = self._log(supervised.service.name)
        code = None if supervised.process is None else supervised.process.returncode
        return f"ended ({code}); it said: {log_tail(log, supervised.log_begins)} ({log})"

    async def _end_service(self, supervised: _SupervisedService) -> None:
        """End one service with all that it started."""
        if supervised.process is None:
            return
        if not supervised.ended:
            supervised.process.terminate()
            if (
                supervised.service.name == WORKER
            ):  # it would wait for its flow runs, for hours maybe
                await asyncio.to_thread(
                    lambda: terminate_processes(self._started_by(supervised), _END_SECONDS)
                )
            try:
                last = supervised.service.name == PREFECT
                seconds = _SERVER_END_SECONDS if last else _END_SECONDS
                await asyncio.wait_for(supervised.process.wait(), seconds)
            except TimeoutError:
                supervised.process.kill()
                await supervised.process.wait()
        await asyncio.to_thread(lambda: kill_processes(self._started_by(supervised)))
        await self._clean_up(supervised)

    async def _clean_up(self, supervised: _SupervisedService) -> None:
        if supervised.service.clean_up is not None:
            await asyncio.to_thread(supervised.service.clean_up)

    def _started_by(self, supervised: _SupervisedService) -> list[psutil.Process]:
        """What a service started; itself is waited for by asyncio alone."""
        own = None if supervised.process is None else supervised.process.pid
        mark = {service_mark(self.settings, supervised.service.name)}
        return [
            process for process in find_marked_processes(SERVICE_MARK, mark) if process.pid != own
        ]

    def _update(self, supervised: _SupervisedService, **changes: object) -> None:
        supervised.state = replace(supervised.state, **changes)  # type: ignore[arg-type]
        self._changed(supervised.state)


class _SupervisedService:
    """A service and its process of the moment."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.state = ServiceState(service.name, service.title, service.address)
        self.process: asyncio.subprocess.Process | None = None
        self.answered = asyncio.Event()
        self.log_begins = 0

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None


def end_leftovers(settings: Settings) -> int:
    """End whatever a killed ``up`` of this workspace left running; how many there were."""
    left = find_leftovers(settings)
    terminate_processes(left, _LEFTOVER_END_SECONDS)
    return len(left)


def find_leftovers(settings: Settings) -> list[psutil.Process]:
    """Processes that carry the mark of this workspace's services."""
    return find_marked_processes(
        SERVICE_MARK, {service_mark(settings, name) for name in SERVICE_NAMES}
    )


def _is_big(log: Path) -> bool:
    return log.exists() and log.stat().st_size > _MAX_LOG_BYTES
