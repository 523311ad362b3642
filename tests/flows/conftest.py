"""One real run of the whole chain, shared by the tests of this folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
AS_OF = "scrape.as_of=2026-01-01T00:00:00Z"
"""A fixed date, so that crawls of two workspaces are the same crawl."""


@dataclass(frozen=True)
class Mill:
    """The command line on a workspace of its own, run from a checkout."""

    home: Path
    checkout: Path = ROOT

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MODELMILL_HOME": str(self.home),
            "PYTHONPATH": str(self.checkout),
        }

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "flows.cli", *arguments]

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.checkout,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=400,
        )

    def answer(self, *arguments: str) -> dict[str, Any]:
        """The object of ``--json``; everything else must be on standard error."""
        done = self(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        value = json.loads(done.stdout)
        assert isinstance(value, dict)
        return value


def states(answer: dict[str, Any]) -> dict[str, str]:
    return {step["stage"]: step["state"] for step in answer["steps"]}


def digests(answer: dict[str, Any]) -> dict[str, str]:
    """Stage -> digest of what the store holds (an action's reference may carry a clock)."""
    sealed = [step for step in answer["steps"] if step["state"] in ("Completed", "Cached")]
    return {s["stage"]: s["digest"] for s in sealed if s["artifact"].startswith("sealed/")}


@pytest.fixture(scope="session")
def nano(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mill, dict[str, Any]]:
    """A workspace in which ``nano`` ran once, under Prefect, and what that run said."""
    mill = Mill(tmp_path_factory.mktemp("nano") / "home")
    return mill, mill.answer("run", "nano", "--set", AS_OF)
