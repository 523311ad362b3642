"""Inputs shared by the parts of a benchmark: settings, scratch folder, reference data and peers."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer_programs import (
    bench_environment,
    find_interpreter,
    peer_program,
    run_program,
)
from components.core.settings import Settings


@dataclass(frozen=True)
class BenchSetting:
    """Settings, scratch folder, repeats and progress callback of one part."""

    settings: Settings
    scratch: Path
    """Folder that is deleted after the part."""
    repeats: int
    """Measurements of which the median is reported."""
    on_progress: Callable[[str], None]
    minutes: float = 30.0
    """Length of a soak."""

    def find_reference(self, name: str) -> Path | None:
        """Path of a set of the reference data; None where it is absent."""
        path = self.settings.reference_data / name
        return path if path.exists() else None

    def run_peer(self, program: str, package: str, *arguments: str) -> Any:
        """Run a program of ``peers/``; returns its last line of output, parsed as JSON.

        Args:
            program: file name without its suffix.
            package: import that the program needs; the result is None where no interpreter has it.
            arguments: its command line.

        Raises:
            MillError: it failed; the message ends with its last lines of output.
        """
        python = find_interpreter(self.settings, package)
        if python is None:
            return None
        variables = bench_environment()
        variables.pop("PYTHONPATH")
        _, output = run_program([str(python), str(peer_program(program)), *arguments], variables)
        return json.loads(output.strip().splitlines()[-1])
