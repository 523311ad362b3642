"""How far along a training is: the schedule and the phases hang on progress, not on step numbers.

Progress runs from 0 at the first step to 1 behind the last. A training for a number of steps has
one leg, on which every step counts alike. One for a time budget may learn on the way that the
machine is slower or quicker than its probe said: a further leg then spreads the progress that is
left over more or fewer steps, so no rate ever jumps. Legs are journalled before their first step,
so a killed training that is called again walks the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical

JOURNAL = "course.json"


@dataclass(frozen=True)
class Leg:
    """From step ``at``, where ``progress`` is done, evenly on to the end of all before ``end``."""

    at: int
    progress: float
    end: int

    @property
    def stride(self) -> float:
        """Progress a step."""
        return (1.0 - self.progress) / (self.end - self.at)


@dataclass(frozen=True)
class Place:
    """Where one step lies: ``progress`` in [0, 1) before it, ``stride`` more after it."""

    progress: float
    stride: float


class Course:
    """The legs of one training."""

    def __init__(self, legs: Sequence[Leg]) -> None:
        self.legs = list(legs)

    @classmethod
    def of(cls, steps: int) -> Course:
        """A course that is settled: so many steps."""
        return cls([Leg(0, 0.0, steps)])

    @property
    def end(self) -> int:
        """Number of steps, as far as is known."""
        return self.legs[-1].end

    def place(self, step: int) -> Place:
        """Where a step lies; from ``end`` on, progress is 1 or more."""
        leg = next(leg for leg in reversed(self.legs) if leg.at <= step)
        return Place(leg.progress + (step - leg.at) * leg.stride, leg.stride)

    def turn(self, at: int, end: int) -> None:
        """Spread what is left at step ``at`` over the steps before ``end``."""
        assert self.legs[-1].at < at < end
        self.legs.append(Leg(at, self.place(at).progress, end))


def write_course(scratch: Path, course: Course, **facts: Any) -> None:
    """Journal a course and whatever its owner must recall."""
    legs = [[leg.at, leg.progress, leg.end] for leg in course.legs]
    write_atomically(scratch / JOURNAL, canonical({"legs": legs, **facts}))


def read_course(scratch: Path) -> tuple[Course, dict[str, Any]] | None:
    """The journalled course and facts; None where there is no journal.

    Raises:
        DataError: the journal is damaged.
    """
    journal = scratch / JOURNAL
    if not journal.is_file():
        return None
    try:
        facts: dict[str, Any] = json.loads(journal.read_bytes())
        legs = [Leg(int(at), float(done), int(end)) for at, done, end in facts.pop("legs")]
        if not legs or any(leg.end <= leg.at for leg in legs):
            raise ValueError("no leg that leads on")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{JOURNAL} is damaged ({error}); delete it to measure anew") from error
    return Course(legs), facts
