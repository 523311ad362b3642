"""Child programs: run one to its end within bounds, or start a server that ends with this process.

Every program gets a session of its own, so that Ctrl+C in the terminal does not reach it and all it
started can be ended with it; what it reads is empty unless the caller gives it something.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from components.core.environment import child_environment
from components.core.log import mask_secrets
from components.core.process.exec_with_parent import exec_with_parent_command

_KEPT_BYTES, _CHUNK_BYTES = 1 << 20, 1 << 14
"""End of an output that is kept: of a program that prints without end the rest is dropped."""
_LAST_LINES = 5
_DRAIN_SECONDS = 5.0
"""Seconds to read on after a program's end, where a process it left behind holds its outputs."""


class ChildTimeout(Exception):
    """Time limit that a program did not keep; it was killed with all that it started."""


@dataclass(frozen=True)
class FinishedProgram:
    """Exit code and last output of a program that has ended."""

    exit_code: int
    """Negative: the signal that ended it."""
    output: str
    errors: str

    def last_line(self) -> str:
        """Last line of its errors, or of its output where it wrote none; secrets are masked."""
        return self.last_lines(1)

    def last_lines(self, count: int = _LAST_LINES) -> str:
        """The same of several lines, as one."""
        lines = (self.errors.strip() or self.output.strip() or "no message").splitlines()
        return mask_secrets(" | ".join(line.strip() for line in lines[-count:]))


def run_program(
    command: Sequence[str],
    *,
    seconds: float | None = None,
    text: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> FinishedProgram:
    """Run a program to its end.

    Args:
        command: program and arguments; no shell sees them.
        seconds: time limit; None for a program that has a limit of its own.
        text: its standard input.
        environment: variables on top of those of this process.
        folder: its current folder; None for that of this process.

    Raises:
        ChildTimeout: it took longer; nothing of it runs any more.
        OSError: it cannot be started.
    """
    with tempfile.TemporaryFile() as file:  # no pipe, which a program that never reads would block
        file.write(text.encode())
        file.seek(0)
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=child_environment(dict(environment or {})),
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    readers = [_LastOutput(pipe) for pipe in (process.stdout, process.stderr) if pipe is not None]
    try:
        exit_code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise ChildTimeout(f"took more than {seconds:g} s") from None
    finally:
        _kill_unfinished(process)
    output, errors = (reader.read() for reader in readers)
    return FinishedProgram(exit_code, output, errors)


class _LastOutput(threading.Thread):
    """Reader of a pipe that keeps the end of what it reads."""

    def __init__(self, pipe: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self._pipe = pipe
        self._content = bytearray()
        self.start()

    def run(self) -> None:
        with self._pipe:
            while chunk := os.read(self._pipe.fileno(), _CHUNK_BYTES):
                self._content += chunk
                if len(self._content) > 2 * _KEPT_BYTES:
                    del self._content[:-_KEPT_BYTES]

    def read(self) -> str:
        """Last output, once the pipe has ended or something in the background holds it open."""
        self.join(_DRAIN_SECONDS)
        return self._content[-_KEPT_BYTES:].decode("utf-8", "replace")


def _kill_unfinished(process: subprocess.Popen[bytes]) -> None:
    """Kill a program that runs, with all of its session; its id is its own until it is awaited."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def start_program(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    output: IO[bytes] | None = None,
    folder: Path | None = None,
    ends_with_parent: bool = True,
) -> subprocess.Popen[bytes]:
    """Start a program that goes on beside this one, with both its outputs in one file.

    Args:
        command: program and arguments; no shell sees them.
        environment: variables on top of those of this process.
        output: an open file; None for this process's own outputs.
        folder: its current folder; None for that of this process.
        ends_with_parent: send it SIGTERM when this process ends. By its parent the kernel means
            the calling thread: call this from one that lives on.
    """
    return subprocess.Popen(
        exec_with_parent_command(os.getpid(), command) if ends_with_parent else command,
        cwd=folder,
        env=child_environment(dict(environment)),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def start_async_program(
    command: Sequence[str], *, environment: Mapping[str, str], output: IO[bytes], folder: Path
) -> asyncio.subprocess.Process:
    """Start a program as ``start_program`` does, for an event loop; it ends with this process.

    Args:
        command: program and arguments; no shell sees them.
        environment: variables on top of those of this process.
        output: an open file.
        folder: its current folder.
    """
    return await asyncio.create_subprocess_exec(
        *exec_with_parent_command(os.getpid(), command),
        cwd=folder,
        env=child_environment(dict(environment)),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )
