"""Subprocesses of a benchmark: their environment, interpreter and wall time, imports included."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.environment import child_environment
from components.core.errors import ConfigError, MillError
from components.core.process.process_tree import kill_process_tree
from components.core.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")
PEERS_PYTHON, PEERS_NODE = ROOT / ".peers" / "python" / "bin" / "python", ROOT / ".peers" / "node"
"""Environments that ``make peers`` makes; variables of the user's name others."""
_TIMEOUT_SECONDS = 600.0


def peer_program(name: str) -> Path:
    """Path of a peer's program, in the folder of the benchmark that runs it."""
    (path,) = PEERS.glob(f"*/{name}.py")
    return path


def bench_environment(address: str | None = None, **extra: str) -> dict[str, str]:
    """Environment that imports this checkout and uses the Prefect server ``address``, or none."""
    variables = child_environment({"PYTHONPATH": str(ROOT), **extra})
    variables.pop("PREFECT_API_URL", None)
    return variables | ({"PREFECT_API_URL": address} if address else {})


def run_program(command: Sequence[str], variables: Mapping[str, str]) -> tuple[float, str]:
    """Run a program that must succeed; returns (wall seconds, standard output).

    Raises:
        MillError: it failed or timed out; the message ends with its last lines of output.
    """
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl+C reaches this process alone; the tree is killed below
    ) as program:
        try:
            output, errors = program.communicate(timeout=_TIMEOUT_SECONDS)
        except BaseException as error:
            kill_process_tree(program.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            name = " ".join(command)
            raise MillError(f"bench: {name}: took more than {_TIMEOUT_SECONDS:g} s") from None
    seconds = time.perf_counter() - start
    if program.returncode != 0:
        last_lines = " | ".join((errors or output).strip().splitlines()[-3:])
        raise MillError(f"bench: {' '.join(command)}: failed: {last_lines}")
    return seconds, output


def find_interpreter(settings: Settings, package: str | None) -> Path | None:
    """Python that can import ``package``: the peers' own, else this one; None where neither can.

    Raises:
        ConfigError: MODELMILL_PEERS_PYTHON names no executable.
    """
    if package is None:
        return Path(sys.executable)
    peers_python = settings.peers_python or PEERS_PYTHON
    if settings.peers_python is not None or peers_python.is_file():
        if not os.access(peers_python, os.X_OK):
            raise ConfigError(f"MODELMILL_PEERS_PYTHON: {peers_python}: no executable file")
        attempt = subprocess.run(
            [peers_python, "-c", f"import {package}"], capture_output=True, check=False
        )
        if attempt.returncode == 0:
            return peers_python
    return Path(sys.executable) if importlib.util.find_spec(package) else None
