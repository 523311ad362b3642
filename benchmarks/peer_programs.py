"""Programs that a benchmark runs beside it: whole processes, imports included."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from components.core.errors import ConfigError, MillError
from components.core.process.process_tree import kill_process_tree
from components.core.settings import Settings, child_environment

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("peers")
_TIMEOUT_SECONDS = 600.0


def bench_environment(address: str | None = None, **extra: str) -> dict[str, str]:
    """For a child: this checkout importable, and the Prefect server at ``address``, or none."""
    variables = child_environment({"PYTHONPATH": str(ROOT), **extra})
    variables.pop("PREFECT_API_URL", None)
    return variables | ({"PREFECT_API_URL": address} if address else {})


def run_program(command: Sequence[str], variables: Mapping[str, str]) -> tuple[float, str]:
    """(seconds, standard output) of a program that must succeed, in the environment ``given``.

    Raises:
        MillError: it failed or took too long; ends with what it said last.
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
        start_new_session=True,  # Ctrl+C is ours alone: what it started is ended below
    ) as program:
        try:
            output, errors = program.communicate(timeout=_TIMEOUT_SECONDS)
        except BaseException as error:
            kill_process_tree(program.pid)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            name = " ".join(command)
            raise MillError(f"bench: {name}: took over {_TIMEOUT_SECONDS:g} s") from None
    seconds = time.perf_counter() - start
    if program.returncode != 0:
        last_lines = " | ".join((errors or output).strip().splitlines()[-3:])
        raise MillError(f"bench: {' '.join(command)}: failed: {last_lines}")
    return seconds, output


def find_interpreter(settings: Settings, package: str | None) -> Path | None:
    """The Python that can import ``needs``: the peers' own, else this one; None where neither can.

    Raises:
        ConfigError: MODELMILL_PEERS_PYTHON names no program.
    """
    if package is None:
        return Path(sys.executable)
    peers_python = settings.peers_python
    if peers_python is not None:
        if not os.access(peers_python, os.X_OK):
            raise ConfigError(f"MODELMILL_PEERS_PYTHON: {peers_python}: no program")
        attempt = subprocess.run(
            [peers_python, "-c", f"import {package}"], capture_output=True, check=False
        )
        if attempt.returncode == 0:
            return peers_python
    return Path(sys.executable) if importlib.util.find_spec(package) else None
