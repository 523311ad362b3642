"""Start and end of a workspace's platform (``up``, ``down``), in the foreground or detached."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import psutil
from rich.console import Console

from components.core.config.stage_config import read_yaml
from components.core.endpoint_settings import drain_seconds
from components.core.errors import ConfigError, DataError, MillError
from components.core.io.full_disk import explain_full_disk
from components.core.io.locks import try_lock
from components.core.process import process_tree, shutdown
from components.core.process.child_programs import start_async_program, start_program
from components.core.process.shutdown import Stopped
from components.core.settings import CHECKOUT_MARKER, Settings
from components.core.workspace_layout import mark_layout
from components.publish.bento_folders import choose_champion
from components.publish.promotion.endpoint_swap import EndpointSwap
from components.publish.promotion.unpromoted_version import describe_newest
from flows.operations.up.platform_display import UpDisplay
from flows.operations.up.platform_state import (
    DEPLOY,
    PlatformState,
    ServiceState,
    lock_file,
    read_running_state,
    read_state,
    state_file,
    write_state,
)
from flows.operations.up.services import list_services, prefect_api_address
from flows.operations.up.supervisor import ROOT, Supervisor, end_leftovers
from flows.operations.up.up_options import UpOptions, detached_command
from flows.runner.prefect.prefect_approvals import ApprovalWatcher
from flows.runner.progress_display import format_duration
from serving.gateway.server_process import log_tail
from serving.serve_model import list_other_champions

_DEPLOY_TIMEOUT_SECONDS = 120.0
_DOWN_TIMEOUT_SECONDS = 20.0
"""Seconds beyond the time for answers that ``down`` waits for ``up`` to end by itself; then it
kills it."""
_FORCED_END_SECONDS = 6.5
"""Seconds from a signal to the end by force, beyond the endpoint's time for its answers; services
get 1.2 to 3 s each before a kill."""
_PATIENCE_SECONDS = 2.0
"""After so long a user is told what the end waits for."""
_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OnReady = Callable[[dict[str, Any]], None]


def run_platform(
    settings: Settings, options: UpOptions, console: Console, ready: OnReady
) -> Stopped | None:
    """Run the platform in this process until Ctrl-C or SIGTERM, then end all its processes.

    Args:
        settings: workspace to serve; its home holds lock and state of the platform.
        options: options from the command line.
        console: receives states and addresses.
        ready: called with the platform as one object once every service answers.

    Returns:
        The signal that ended it.

    Raises:
        ConfigError: a platform is already running, or a port is taken; nothing was started.
        MillError: a service did not start; all services were ended.
    """
    drain_seconds()  # a value that makes no sense is refused before anything is started
    _create_home(settings)
    with explain_full_disk(settings.home), try_lock(lock_file(settings)) as acquired:
        if not acquired:
            raise ConfigError(_running_line(settings))
        _end_killed_platform(settings, console)
        options.check(settings)
        try:
            platform = _Platform(settings, options, console, ready)
            asyncio.run(platform.run())
        finally:
            state_file(settings).unlink(missing_ok=True)
    return platform.stopped


def run_platform_detached(
    settings: Settings, options: UpOptions, console: Console
) -> dict[str, Any]:
    """Run the platform in a background process; returns once every service answers.

    Args:
        settings: workspace to serve; its logs hold those of the platform.
        options: options from the command line.
        console: receives states and addresses.

    Raises:
        ConfigError: a platform is already running, or a port is taken; nothing was started.
        MillError: a service did not start; all services were ended.
    """
    _create_home(settings)
    with try_lock(lock_file(settings)) as acquired:
        if not acquired:
            raise ConfigError(_running_line(settings))
        _end_killed_platform(settings, console)
        options.check(settings)
    log = settings.logs / "up.log"
    with log.open("wb") as output:
        process = start_program(
            detached_command(options),
            environment={"MODELMILL_HOME": str(settings.home)},
            output=output,
            folder=ROOT,
            ends_with_parent=False,
        )
    display = UpDisplay(console, options.timeout_seconds)
    try:
        state = _follow_start(settings, process, display)
    except BaseException:
        process.terminate()
        process.wait()
        raise
    finally:
        display.stop()
    if state is None:
        raise MillError(log_tail(log).rpartition("modelmill: ")[2])
    display.show_complete(
        f"`modelmill status` shows its state, `modelmill down` ends it; log: {log}"
    )
    if line := _served_model_line(settings, options):
        console.print(line, soft_wrap=True, markup=False)
    return platform_json(state)


def end_platform(settings: Settings) -> int:
    """End the platform of this workspace; returns the number of processes ended.

    Raises:
        DataError: its state file is damaged.
    """
    state = read_running_state(settings)
    count = 0
    if state is not None:
        count = 1 + len(state.services)
        with suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGTERM)
        deadline = time.monotonic() + state.drain_seconds + _DOWN_TIMEOUT_SECONDS
        while process_tree.is_running(state.pid, state.create_time) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        if process_tree.is_running(state.pid, state.create_time):
            process_tree.kill_processes([psutil.Process(state.pid)])
    count += end_leftovers(settings)
    state_file(settings).unlink(missing_ok=True)
    return count


def platform_json(state: PlatformState) -> dict[str, Any]:
    """State of a platform as one JSON object."""
    return {
        "pid": state.pid,
        "started": state.started,
        "prefect_api_url": state.api,
        "services": [asdict(service) for service in state.services],
    }


class _Platform:
    """Run of a platform: its services, state file and display."""

    def __init__(
        self, settings: Settings, options: UpOptions, console: Console, ready: OnReady
    ) -> None:
        self.settings, self.ports, self.console = settings, options.ports, console
        self._ready = ready
        self._wish = options
        self._display = UpDisplay(console, options.timeout_seconds)
        platform_services = list_services(settings, options.ports, options.model)
        self._supervisor = Supervisor(
            settings, platform_services, self._changed, limit=options.timeout_seconds
        )
        self._started = time.time()
        self._complete = False
        self.stopped: Stopped | None = None
        """The signal that ended it."""

    async def run(self) -> None:
        """Start the services, watch them, and end them on a signal."""
        ended = asyncio.Event()

        def stop(sign: signal.Signals) -> None:
            if self.stopped is not None:
                shutdown.force_exit(sign)
            self.stopped = Stopped(sign)
            ended.set()
            # The loop handles the signals now, so nothing else makes sure that this ends.
            seconds = drain_seconds() + _FORCED_END_SECONDS
            loop.call_later(seconds, shutdown.force_exit, sign)

        loop = asyncio.get_running_loop()
        for sign in _SIGNALS:
            loop.add_signal_handler(sign, stop, sign)
        self._write()
        self._display.begin(self._supervisor.states)
        ending = asyncio.create_task(ended.wait())
        listening: list[asyncio.Task[None]] = []
        starting = asyncio.create_task(self._start())
        try:
            await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                watcher = ApprovalWatcher(self.settings, prefect_api_address(self.ports))
                listening = [asyncio.create_task(watcher.watch())]
                await ended.wait()
        finally:
            for task in (starting, *listening):
                task.cancel()
            await asyncio.gather(starting, *listening, return_exceptions=True)
            self._display.stop()
            began = time.monotonic()
            patience = loop.call_later(_PATIENCE_SECONDS, self._say_what_is_waited_for)
            await self._supervisor.end()
            patience.cancel()
        self.console.print(
            f"stopped; all services ended after {format_duration(time.monotonic() - began)}"
        )

    def _say_what_is_waited_for(self) -> None:
        seconds = format_duration(drain_seconds())
        self.console.print(
            f"answers in progress end first, within {seconds}; a second signal ends all at once"
        )

    async def _start(self) -> None:
        await self._supervisor.start()
        deployments = await self._deploy()
        self._complete = True
        self._write()
        seconds = format_duration(time.time() - self._started)
        self._display.show_complete(
            f"{deployments}all services answer after {seconds}; Ctrl+C ends them"
        )
        if line := _served_model_line(self.settings, self._wish):
            self.console.print(line, soft_wrap=True, markup=False)
        self._ready(platform_json(self._state()))

    async def _deploy(self) -> str:
        """Deploy ``prefect.yaml`` to the server; returns a text for the user.

        Raises:
            MillError: Prefect refused; with the end of its log.
        """
        count = count_deployments()
        if not count:
            return ""
        log = self.settings.logs / f"{DEPLOY}.log"
        environment = self._supervisor.environment(
            DEPLOY, {"PREFECT_API_URL": prefect_api_address(self.ports)}
        )
        arguments = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        with log.open("wb") as output:
            process = await start_async_program(
                arguments, environment=environment, output=output, folder=ROOT
            )
        try:
            code = await asyncio.wait_for(process.wait(), _DEPLOY_TIMEOUT_SECONDS)
        except TimeoutError:
            raise MillError(
                f"deployment took more than {_DEPLOY_TIMEOUT_SECONDS:g} s ({log})"
            ) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code != 0:
            raise MillError(
                f"{CHECKOUT_MARKER} cannot be deployed; it said: {log_tail(log)} ({log})"
            )
        return f"{count} deployments of {CHECKOUT_MARKER}; "

    def _changed(self, state: ServiceState) -> None:
        self._write()
        self._display.update_service(state)

    def _state(self) -> PlatformState:
        pid = os.getpid()
        return PlatformState(
            pid=pid,
            create_time=process_tree.process_start_time(pid),
            started=self._started,
            api=prefect_api_address(self.ports),
            complete=self._complete,
            services=self._supervisor.states,
            drain_seconds=drain_seconds(),
        )

    def _write(self) -> None:
        write_state(self.settings, self._state())


def count_deployments() -> int:
    """Number of deployments in ``prefect.yaml``.

    Raises:
        ConfigError: it is not YAML, or no list of them.
    """
    values, lines = read_yaml(ROOT / CHECKOUT_MARKER)
    listed = values.get("deployments")
    if not isinstance(listed, list | None):
        line = lines[("deployments",)]
        raise ConfigError(f"{ROOT / CHECKOUT_MARKER}:{line}: deployments: must be a list")
    return len(listed or ())


def _running_line(settings: Settings) -> str:
    with suppress(DataError):
        state = read_running_state(settings)
        if state is not None:
            places = ", ".join(f"{s.title} {s.address}" for s in state.services)
            return (
                f"it is already running (process {state.pid}): {places}; "
                "`modelmill status` shows more, `modelmill down` ends it"
            )
    return f"another `modelmill up` or `down` of {settings.home} is at work; try again"


def _create_home(settings: Settings) -> None:
    mark_layout(settings.home)
    settings.logs.mkdir(parents=True, exist_ok=True)


def _end_killed_platform(settings: Settings, console: Console) -> None:
    count = end_leftovers(settings)
    if count:
        console.print(f"ended {count} processes that a killed `modelmill up` left")


def _served_model_line(settings: Settings, options: UpOptions) -> str:
    """Reason why the endpoint serves this model among several, or none; empty if obvious."""
    if choose_champion(settings, options.model) is None:
        return f"the endpoint waits for a champion: {describe_newest(settings, options.model)}"
    status = EndpointSwap(settings).read_status()
    if options.model or status is None or status.serving is None:
        return ""
    others = list_other_champions(settings, status.serving.model)
    if not others:
        return ""
    return (
        f"the endpoint serves {status.serving.model}, whose champion moved last; "
        f"`modelmill up --model {others[0]}` serves another ({', '.join(others)})"
    )


def _follow_start(
    settings: Settings, process: subprocess.Popen[bytes], display: UpDisplay
) -> PlatformState | None:
    """Follow a detached start; returns its state once all answer, or None if it ended before."""
    begun = False
    while process.poll() is None:
        state = read_state(settings)
        if state is not None and state.pid == process.pid:
            if not begun:
                display.begin(state.services)
                begun = True
            for service in state.services:
                display.update_service(service)
            if state.complete:
                return state
        time.sleep(_POLL_SECONDS)
    return None
