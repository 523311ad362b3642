"""kill -9 in the middle of a stage, then the same command: it finishes with the same digests."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.flows.conftest import AS_OF, CommandLine, digests, states

STAGES = ("scrape", "pretrain", "sft", "ppo")
"""A source, two kinds of training, alignment."""
RUN = ("run", "nano", "--plain", "--set", AS_OF, "--until", "compare")


def at_work(modelmill: CommandLine) -> str | None:
    """The stage that the newest run is at, from its record."""
    records = sorted(
        (modelmill.home / "runs").glob("*.json"), key=lambda path: path.stat().st_mtime
    )
    at = json.loads(records[-1].read_bytes()).get("at") if records else None
    return str(at) if at else None


def sealed(modelmill: CommandLine) -> dict[str, int]:
    """Sealed folder -> the moment it was made."""
    folders = (modelmill.home / "store" / "sealed").glob("*")
    return {folder.name: folder.stat().st_mtime_ns for folder in folders}


def kill_in(modelmill: CommandLine, stage: str, wait: float) -> bool:
    """Start the run and kill it ``wait`` seconds into ``stage``; whether that was in time."""
    process = subprocess.Popen(
        modelmill.command(*RUN),
        cwd=modelmill.checkout,
        env=modelmill.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 200
    while process.poll() is None and at_work(modelmill) != stage:
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.02)
    time.sleep(wait)
    assert process.poll() is None, f"{stage} was over before the kill"
    process.send_signal(signal.SIGKILL)
    process.wait()
    return at_work(modelmill) == stage


def test_killed_in_each_stage_and_run_again(
    nano: tuple[CommandLine, dict[str, Any]], tmp_path: Path
) -> None:
    unbroken = digests(nano[1])
    modelmill = CommandLine(tmp_path / "home")
    dice = random.Random()
    kept: dict[str, int] = {}
    cut: list[str] = []
    for stage in STAGES:
        if kill_in(modelmill, stage, dice.uniform(0.02, 0.3)):
            cut.append(stage)
        now = sealed(modelmill)
        assert {name: now.get(name) for name in kept} == kept, f"{stage} touched what was sealed"
        kept = now
    finished = modelmill.answer(*RUN)
    assert {name: sealed(modelmill)[name] for name in kept} == kept
    assert states(finished)["tokenizer"] == "Cached"
    assert len(cut) >= 3, f"only {cut} were cut in the middle"
    assert digests(finished) == {stage: unbroken[stage] for stage in digests(finished)}
    leftovers = list((modelmill.home / "store" / "partial").iterdir())
    assert leftovers == []
