"""Step plan of a training: learning rates and phases follow progress in [0, 1), not step numbers.

Progress runs from 0 at the first step to 1 behind the last. A plan for a fixed number of steps has
one segment, on which every step counts alike. A time budget may find on the way that the machine is
slower or quicker than its probe said: a further segment then spreads the remaining progress over
more or fewer steps, so no rate ever jumps. Segments are journalled before their first step, so a
killed training that is called again repeats the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json

STEP_PLAN_FILE = "step_plan.json"


@dataclass(frozen=True)
class Segment:
    """Even progress from step ``start``, where ``progress`` is done, to 1 at step ``end``."""

    start: int
    progress: float
    end: int

    @property
    def stride(self) -> float:
        """Progress a step."""
        return (1.0 - self.progress) / (self.end - self.start)


@dataclass(frozen=True)
class StepProgress:
    """Position of one step: ``progress`` in [0, 1) before it, which it raises by ``stride``."""

    progress: float
    stride: float


class StepPlan:
    """Segments of one training, in order."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self.segments = list(segments)

    @classmethod
    def of_steps(cls, steps: int) -> StepPlan:
        """A plan of one segment: a fixed number of steps."""
        return cls([Segment(0, 0.0, steps)])

    @property
    def end(self) -> int:
        """Number of steps, as planned so far."""
        return self.segments[-1].end

    def progress_at(self, step: int) -> StepProgress:
        """Progress at a step; from ``end`` on it is 1 or more."""
        segment = next(part for part in reversed(self.segments) if part.start <= step)
        progress = segment.progress + (step - segment.start) * segment.stride
        return StepProgress(progress, segment.stride)

    def replan(self, step: int, end: int) -> None:
        """Spread the progress that remains at ``step`` over the steps before ``end``."""
        assert self.segments[-1].start < step < end
        self.segments.append(Segment(step, self.progress_at(step).progress, end))


def write_step_plan(scratch: Path, plan: StepPlan, **facts: Any) -> None:
    """Journal a plan with facts that its owner has to recall.

    Args:
        scratch: folder of the journal.
        plan: all of its segments are written.
        facts: JSON values, given back by ``read_step_plan``.
    """
    segments = [[segment.start, segment.progress, segment.end] for segment in plan.segments]
    write_atomically(scratch / STEP_PLAN_FILE, canonical_json({"segments": segments, **facts}))


def read_step_plan(scratch: Path) -> tuple[StepPlan, dict[str, Any]] | None:
    """The journalled plan and its facts; None where there is no journal.

    Raises:
        DataError: the journal is damaged.
    """
    journal = scratch / STEP_PLAN_FILE
    if not journal.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(journal.read_bytes())
        segments = [
            Segment(int(start), float(progress), int(end))
            for start, progress, end in facts.pop("segments")
        ]
        if not segments or any(segment.end <= segment.start for segment in segments):
            raise ValueError("no segment with a step in it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{STEP_PLAN_FILE} is damaged ({error}); delete it to measure anew"
        ) from error
    return StepPlan(segments), facts
