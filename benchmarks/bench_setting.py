"""What every part of the bench is given, and how it runs a peer's program."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peer_programs import PEERS, bench_environment, find_interpreter, run_program
from components.core.settings import Settings


@dataclass(frozen=True)
class BenchSetting:
    """Where things are, how often to measure, who hears of it."""

    settings: Settings
    scratch: Path
    """A folder that is deleted afterwards."""
    repeats: int
    on_progress: Callable[[str], None]

    def find_reference(self, name: str) -> Path | None:
        """A set of the reference data; None where it is absent."""
        path = self.settings.reference_data / name
        return path if path.exists() else None

    def run_peer(self, program: str, package: str, *arguments: str) -> Any:
        """What ``peers/PROGRAM.py`` prints as JSON on its last line; None without its package.

        Raises:
            MillError: it failed; ends with what it said last.
        """
        python = find_interpreter(self.settings, package)
        if python is None:
            return None
        variables = bench_environment()
        variables.pop("PYTHONPATH")
        _, output = run_program([str(python), str(PEERS / f"{program}.py"), *arguments], variables)
        return json.loads(output.strip().splitlines()[-1])
