"""A budget in minutes becomes a number of steps, once, by a short probe.

The number is journalled before the first step, so a resume trains exactly as long as it set out to.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from torch import nn

from components.core.artifact import canonical
from components.core.errors import DataError
from components.core.workdir import write_durably
from components.train.allocator import keep_freed_memory
from components.train.loop import Job, one_step
from components.train.optim import Optimiser

JOURNAL = "budget.json"
WARM_UPS, PROBES = 2, 3
M = TypeVar("M")


def steps_within(
    minutes: float, scratch: Path, phases: Callable[[], Sequence[tuple[float, Callable[[], None]]]]
) -> int:
    """How many steps fit into ``minutes``: from the journal, else measured and journalled.

    Args:
        phases: gives (fraction of all steps, one step of that kind) pairs; called only to
            measure. The steps must leave the model and the generator as they were.

    Raises:
        DataError: the journal is damaged.
    """
    journal = scratch / JOURNAL
    if journal.is_file():
        try:
            return int(json.loads(journal.read_bytes())["steps"])
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{JOURNAL} is damaged ({error}); delete it to measure anew") from error
    began = time.perf_counter()
    seconds = sum(fraction * _seconds(step) for fraction, step in phases() if fraction)
    left = minutes * 60 - (time.perf_counter() - began)
    steps = max(1, int(left / seconds))
    write_durably(journal, canonical({"steps": steps, "seconds_per_step": round(seconds, 6)}))
    return steps


def trial_step(job: Job[M]) -> Callable[[], None]:
    """The first step of ``job``, again and again, at rate 0. Its modules must be copies."""
    optimiser = Optimiser(nn.ModuleDict(dict(job.modules)), job.optim)
    keep_freed_memory()

    def step() -> None:
        one_step(job, optimiser, job.batch(0), 0.0)

    return step


def _seconds(step: Callable[[], None]) -> float:
    """Mean seconds of a step, the first ones (which allocate) left out."""
    for _ in range(WARM_UPS):
        step()
    start = time.perf_counter()
    for _ in range(PROBES):
        step()
    return (time.perf_counter() - start) / PROBES
