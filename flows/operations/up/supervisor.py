"""Process supervisor with health probes, restarts with exponential backoff, and ordered shutdown.

A service receives SIGTERM when this process dies, however that happens; the service's descendants
are found by a mark in their environment. Circus and supervisor would need a daemon, a configuration
file and a control socket for this.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import psutil

from components.core.endpoint_settings import drain_seconds
from components.core.errors import MillError, error_line
from components.core.process.child_programs import start_async_program
from components.core.process.process_tree import (
    find_marked_processes,
    kill_processes,
    process_start_time,
    terminate_processes,
)
from components.core.settings import Settings
from flows.operations.up.platform_state import (
    ENDPOINT,
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
"""Restarts in a row before a service is given up; its log then tells more than another try."""
_STEADY_SECONDS = 300.0
"""After so long without a failure, the count of restarts begins anew."""
_MAX_PAUSE_SECONDS = 30.0
"""Upper bound of the pause before a restart, which doubles each time."""
_POLL_SECONDS = 0.1
_PROBE_INTERVAL_SECONDS = 10.0
_PROBE_TIMEOUT_SECONDS = 10.0
_MAX_SILENT_PROBES = 6
"""Unanswered probes in a row after which a service counts as hung."""
_END_SECONDS = 1.2
_SERVER_END_SECONDS = 2.5
"""Everything but answers in progress is to end within 5 s: the worker's flow runs, the other
services, and last Prefect's server, which still records the final states that they report."""
_ENDPOINT_END_SECONDS = 3.0
"""Beyond the time for its answers; without any it ends within a second or two."""
_LEFTOVER_END_SECONDS = 5.0
_MAX_LOG_BYTES = 16 << 20
"""Size from which a log is written anew at the next start instead of being appended to."""
ROOT = Path(__file__).resolve().parents[3]
"""Root of the checkout, the working directory of services."""
OnChange = Callable[[ServiceState], None]


class Supervisor:
    """Supervisor of services; calls ``changed`` at each change of a service's state."""

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
        """Current states of all services."""
        return tuple(supervised.state for supervised in self._supervised.values())

    async def start(self) -> None:
        """Start all services; returns once each has answered.

        Raises:
            MillError: one ended or did not answer in time; with the end of its log.
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
        """End all services: Prefect's server last, so that the others can still report to it."""
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
        """Run one service, and restart it, for as long as the supervisor runs."""
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
        """Start a service and watch it; returns the reason of its end."""
        await self._clean_up(
            supervised
        )  # at its last end there may have been no server to report to
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
        """Probe a service until it ends or no longer answers; returns the reason."""
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
            environment = self.environment(service.name, service.environment)
            supervised.process = await start_async_program(
                service.command, environment=environment, output=output, folder=ROOT
            )
        pid = supervised.process.pid
        started = process_start_time(pid)
        self._update(
            supervised, state=STARTING, note="", pid=pid, create_time=started, since=time.time()
        )

    def environment(self, name: str, extra: dict[str, str]) -> dict[str, str]:
        """Variables to add to this process's environment for a service."""
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
        """End one service with all its descendants."""
        if supervised.process is None:
            return
        if not supervised.ended:
            supervised.process.terminate()
            if (
                supervised.service.name == WORKER
            ):  # a worker would wait for its flow runs, possibly for hours
                await asyncio.to_thread(
                    lambda: terminate_processes(self._started_by(supervised), _END_SECONDS)
                )
            try:
                seconds = _longest_end(supervised.service.name)
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
        """Descendants of a service, without its own process, for which asyncio waits."""
        own = None if supervised.process is None else supervised.process.pid
        mark = {service_mark(self.settings, supervised.service.name)}
        return [
            process for process in find_marked_processes(SERVICE_MARK, mark) if process.pid != own
        ]

    def _update(self, supervised: _SupervisedService, **changes: object) -> None:
        supervised.state = replace(supervised.state, **changes)  # type: ignore[arg-type]
        self._changed(supervised.state)


class _SupervisedService:
    """Service with its current process and state."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.state = ServiceState(service.name, service.title, service.address)
        self.process: asyncio.subprocess.Process | None = None
        self.answered = asyncio.Event()
        self.log_begins = 0

    @property
    def ended(self) -> bool:
        return self.process is not None and self.process.returncode is not None


def _longest_end(name: str) -> float:
    """Seconds that a service has to end by itself; the endpoint finishes its answers."""
    if name == ENDPOINT:
        return drain_seconds() + _ENDPOINT_END_SECONDS
    return _SERVER_END_SECONDS if name == PREFECT else _END_SECONDS


def end_leftovers(settings: Settings) -> int:
    """End the processes that a killed ``up`` of this workspace left; returns their number."""
    left = find_leftovers(settings)
    terminate_processes(left, _LEFTOVER_END_SECONDS)
    return len(left)


def find_leftovers(settings: Settings) -> list[psutil.Process]:
    """Find processes that carry the mark of this workspace's services."""
    return find_marked_processes(
        SERVICE_MARK, {service_mark(settings, name) for name in SERVICE_NAMES}
    )


def _is_big(log: Path) -> bool:
    return log.exists() and log.stat().st_size > _MAX_LOG_BYTES
