"""vLLM's server as a child process: started, awaited, watched, started again, ended.

It listens on a loopback port with a random key, which it gets by its environment, since every user
of a machine may read command lines. Of the endpoint's own key it learns nothing.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

import httpx

from components.core.errors import DataError, MillError
from components.core.log import mask_secrets
from components.core.process.child_programs import start_program
from components.core.process.ports import LOOPBACK, free_port
from serving.bento.bento_sources import ROOT
from serving.gateway.server_process import SERVER_MARK, ServerProcess, stop_server
from serving.vllm.vllm_program import VLLM_RANKS, VllmSpec

READY_SECONDS = 1200.0
"""Weights of some 100 GB are read, kernels compiled and graphs captured before it answers."""
RESTARTS = 5
"""Starts in a row, with growing pauses, before a server that dies is given up."""
_LONGEST_PAUSE_SECONDS = 30.0
_STEADY_SECONDS = 300.0
"""A server that ran this long is no longer one that dies at once."""
_POLL_SECONDS = 0.1
_HEALTH_SECONDS = 2.0
_ASK_SECONDS = 10.0
_TAIL_BYTES = 1 << 18
_PREFIX = re.compile(
    r"^(?:\([^)]*\) ?)*(?:(?:ERROR|WARNING|INFO|CRITICAL) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]+\] ?)?"
)
"""``(EngineCore_0 pid=7) ERROR 01-31 12:00:00 [core.py:700]`` in front of each line of its log."""
_EXCEPTION = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Interrupt): \S")
_CONSEQUENCE = "See root cause above"
"""In the error by which vLLM's front tells that its engine could not start."""


@dataclass(frozen=True)
class RestartPolicy:
    """Bounds of waiting for a server and of starting it again."""

    ready_seconds: float = READY_SECONDS
    restarts: int = RESTARTS
    pause_seconds: float = 1.0
    """Before the first new start; doubled each time."""


class VllmServer:
    """The child process and its state.

    Args:
        spec: program, folder and limits.
        policy: bounds of waiting and starting again.
    """

    def __init__(self, spec: VllmSpec, policy: RestartPolicy | None = None) -> None:
        self.spec, self.policy = spec, policy or RestartPolicy()
        self.key = secrets.token_urlsafe(32)
        self.ready = False
        """It answers requests."""
        self.server: ServerProcess | None = None
        self.failures = 0
        self._log_begins = 0
        """Byte of the log from which on the present process writes."""

    @property
    def address(self) -> str:
        """Address of the present process."""
        assert self.server is not None
        return f"http://{LOOPBACK}:{self.server.port}"

    async def keep_running(self) -> None:
        """Start it, and again when it dies; does not return.

        Raises:
            DataError: the first start failed; with its reason.
            MillError: it died too often.
        """
        was_ready = False
        async with httpx.AsyncClient(trust_env=False, timeout=_ASK_SECONDS) as client:
            while True:
                began = time.monotonic()
                self.server = self.spawn()
                try:
                    await self._wait_ready(client)
                    was_ready = self.ready = True
                    _log_line(f"{self.spec.model} is ready; vLLM writes to {self.spec.log}")
                    fault = await self._wait_fault(client)
                except MillError as failed:
                    if not was_ready:
                        raise
                    fault = str(failed)
                self.ready = False
                await asyncio.to_thread(stop_server, self.server)
                if time.monotonic() - began > _STEADY_SECONDS:
                    self.failures = 0
                await self._pause(fault)

    async def _pause(self, fault: str) -> None:
        """Wait before the next start, longer each time.

        Raises:
            MillError: it died too often.
        """
        policy, self.failures = self.policy, self.failures + 1
        if self.failures > policy.restarts:
            raise MillError(f"vLLM died {self.failures} times in a row, the last time: {fault}")
        pause = min(policy.pause_seconds * 2.0 ** (self.failures - 1), _LONGEST_PAUSE_SECONDS)
        _log_line(
            f"vLLM died: {fault}; again in {pause:g} s ({self.failures} of {policy.restarts})"
        )
        await asyncio.sleep(pause)

    def spawn(self) -> ServerProcess:
        """Start the program; it gets SIGTERM when this process dies.

        The kernel means the calling thread by that: call it from one that lives on.
        """
        port, mark = free_port(), secrets.token_hex(8)
        secret = {"VLLM_API_KEY": self.key, "MODELMILL_API_KEY": "", SERVER_MARK: mark}
        environment = {**secret, "VLLM_NO_USAGE_STATS": "1"}
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab" if self.server else "wb") as output:
            self._log_begins = output.tell()
            command = vllm_command(self.spec, port)
            process = start_program(command, environment=environment, output=output, folder=ROOT)
        return ServerProcess(process, port, self.spec.log, mark)

    def stop(self) -> None:
        """End it with all that it started."""
        if self.server is not None:
            stop_server(self.server)

    async def _wait_ready(self, client: httpx.AsyncClient) -> None:
        """Wait until it answers.

        Raises:
            DataError: it ended, or was not ready in time; with its reason.
        """
        assert self.server is not None
        deadline = time.monotonic() + self.policy.ready_seconds
        while time.monotonic() < deadline:
            status = self.server.process.poll()
            if status is not None:
                raise DataError(f"vLLM could not start ({status}); it said: {self.read_reason()}")
            if await self._ask_health(client) == 200:
                return
            await asyncio.sleep(_POLL_SECONDS)
        seconds = self.policy.ready_seconds
        raise DataError(f"vLLM was not ready within {seconds:g} s; it said: {self.read_reason()}")

    async def _wait_fault(self, client: httpx.AsyncClient) -> str:
        """Wait until it serves no more: it ended, or says that its engine did."""
        assert self.server is not None
        next_question = time.monotonic() + _HEALTH_SECONDS
        while (status := self.server.process.poll()) is None:
            await asyncio.sleep(_POLL_SECONDS)
            if time.monotonic() > next_question:
                health = await self._ask_health(client)
                if health is not None and health >= 500:
                    return f"its engine is dead ({health}); it said: {self.read_reason()}"
                next_question = time.monotonic() + _HEALTH_SECONDS
        return f"it ended ({status}); it said: {self.read_reason()}"

    async def _ask_health(self, client: httpx.AsyncClient) -> int | None:
        """Status of its ``/health``; None where it does not listen or is too busy to answer."""
        with suppress(httpx.TransportError):
            return (await client.get(f"{self.address}/health")).status_code
        return None

    def read_reason(self) -> str:
        """The line of its log that says best why it failed."""
        own = self.spec.log.read_bytes()[self._log_begins :]
        output = own[-_TAIL_BYTES:].decode("utf-8", "replace")
        return summarize_vllm_output(output.replace(self.key, "***"))


def summarize_vllm_output(output: str) -> str:
    """The first exception of a log that is no consequence of another, else its last lines."""
    lines = [_PREFIX.sub("", line).strip() for line in output.splitlines()]
    errors = [line for line in lines if _EXCEPTION.match(line)]
    causes = [line for line in errors if _CONSEQUENCE not in line]
    telling = causes[:1] or errors[-1:] or [line for line in lines if line][-3:]
    return " | ".join(telling)[:600] or "nothing"


def vllm_command(spec: VllmSpec, port: int) -> list[str]:
    """The command line of vLLM's server."""
    adapters: list[str] = []
    if spec.adapters:
        rank = next(rank for rank in VLLM_RANKS if rank >= spec.max_rank)
        modules = [f"{name}={folder}" for name, folder in spec.adapters.items()]
        adapters = ["--enable-lora", "--max-lora-rank", str(rank), "--max-loras", str(len(modules))]
        adapters += ["--lora-modules", *modules]
    return [
        *(spec.program, "serve", str(spec.folder)),
        *("--host", LOOPBACK, "--port", str(port)),
        *("--served-model-name", spec.model),
        *("--max-model-len", str(spec.context)),
        *("--max-num-seqs", str(spec.limits.slots)),
        *("--load-format", "safetensors"),  # never a pickle
        "--disable-uvicorn-access-log",
        *adapters,
    ]


def _log_line(what: str) -> None:
    sys.stderr.write(f"{mask_secrets(what)}\n")
    sys.stderr.flush()
