"""Number of threads that torch computes on: measured, journalled, walked again by a resume.

Threads wait for each other some hundred times a step. One that must share its core with another
program holds up all of them, so beside a busy neighbour fewer are often quicker. What is quickest
is measured on the work itself when it starts, again when its steps grow much slower, and now and
then, since a neighbour may have gone or been there from the first step on.

bfloat16 products are bit-equal from run to run at an equal number of threads alone, so each choice
is journalled in the stage's scratch with the step from which it holds, before that step: a killed
stage that is called again walks the same ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.process import shutdown
from components.core.process.thread_search import (
    SLOWER,
    Trial,
    Watch,
    counts_to_try,
    fewest_quick,
    thread_limit,
    time_counts,
    worth_changing,
)
from components.core.settings import thread_count
from components.core.store.artifact import canonical
from components.core.store.workdir import Workdir

TRAINING, STAGE = "threads.json", "stage_threads.json"
"""Journals: of a training, whose steps are numbered, and of whatever else a stage computes."""
Aside = Callable[[], AbstractContextManager[None]]
log = get_logger(__name__)


@dataclass(frozen=True)
class Turn:
    """From step ``at`` on ``threads``."""

    at: int
    threads: int


class Threads:
    """The number of threads of one stage; what it was before comes back at the end of the context.

    Args:
        work: the stage's; its scratch holds the journal, its stats get the last number.
        journal: the file's name.
        limit: the most threads; by default what this process may use.
        clock: seconds; a test has its own.

    Raises:
        ConfigError: MODELMILL_THREADS is no number.
        DataError: the journal is damaged.
    """

    def __init__(
        self,
        work: Workdir,
        journal: str = TRAINING,
        *,
        limit: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._work, self._path, self._clock = work, work.scratch / journal, clock
        self._limit = limit or thread_limit()
        self._asked = thread_count()
        self.turns = read_turns(self._path)
        self._watch = Watch(clock)

    def __enter__(self) -> Threads:
        shutdown.load_uninterrupted(_load_torch)  # seconds, at the first stage that needs it
        import torch

        self._before = torch.get_num_threads()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        use_threads(self._before)

    def settle(self, step: int, trial: Trial | None = None, aside: Aside = nullcontext) -> bool:
        """Compute ``step`` on the threads that are journalled for it, or measure where that is due.

        Args:
            step: that comes next; one that an earlier try took is taken as it was then.
            trial: a step like those that come; None takes a sample of what decoders compute.
            aside: a context for all trials of a measurement, which puts back what they moved.

        Returns:
            Whether time was spent on measuring.
        """
        held, measured = self._held(step), False
        if self._asked is not None:
            if held is None or held.threads != self._asked:
                self._turn(Turn(step, self._asked))
        elif held is None or self._due(step, held):
            measured = self._measure(step, held, trial or sample_work(), aside)
        held = self._held(step)
        assert held is not None
        use_threads(held.threads)
        self._work.threads = held.threads
        return measured

    def note(self, seconds: float) -> None:
        """Take down the seconds of the step that was settled last."""
        self._watch.note(seconds)

    def _due(self, step: int, held: Turn) -> bool:
        known = step <= self.turns[-1].at  # an earlier try has been here
        return not known and self._watch.due() and len(self._counts(held)) > 1

    def _held(self, step: int) -> Turn | None:
        return next((turn for turn in reversed(self.turns) if turn.at <= step), None)

    def _measure(self, step: int, held: Turn | None, trial: Trial, aside: Aside) -> bool:
        counts = self._counts(held)
        if len(counts) == 1:
            self._turn(Turn(step, counts[0]))
            return False
        slowdown, began = self._watch.slowdown, self._clock()
        with aside():
            seconds = time_counts(trial, counts, use_threads, self._clock)
        chosen = fewest_quick(seconds)
        if held is not None and not worth_changing(held.threads, seconds):
            chosen = held.threads
        changed = held is None or held.threads != chosen
        self._watch.begin(cost=self._clock() - began, changed=changed)
        if changed:
            self._turn(Turn(step, chosen))
            self._tell(step, held, slowdown, seconds, chosen)
        return True

    def _counts(self, held: Turn | None) -> list[int]:
        """What to try: also what is in use, by a journal from a machine with more cores."""
        counts = {*counts_to_try(self._limit)}
        return sorted(counts if held is None else counts | {held.threads}, reverse=True)

    def _turn(self, turn: Turn) -> None:
        """Journal a turn; those behind it were of steps that will be taken anew."""
        self.turns = [earlier for earlier in self.turns if earlier.at < turn.at] + [turn]
        write_atomically(self._path, canonical({"turns": [astuple(one) for one in self.turns]}))

    def _tell(
        self,
        step: int,
        held: Turn | None,
        slowdown: float,
        seconds: Mapping[int, float],
        chosen: int,
    ) -> None:
        timed = ", ".join(f"{taken * 1e3:.3g} ms on {n}" for n, taken in sorted(seconds.items()))
        if held is None:
            log.info("step %d: %d of %d threads (a step: %s)", step, chosen, self._limit, timed)
            return
        why = f"steps grew {slowdown:.1f} times slower" if slowdown > SLOWER else "looked again"
        log.warning(
            "step %d: %s; on with %d threads in place of %d (a step: %s)",
            *(step, why, chosen, held.threads, timed),
        )


class StageThreads(Threads):
    """The number of threads of a stage that has no steps of one kind, settled when it begins."""

    def __init__(self, work: Workdir) -> None:
        super().__init__(work, STAGE)

    def __enter__(self) -> Threads:
        super().__enter__()
        self.settle(0)
        return self


def _load_torch() -> None:
    import torch  # noqa: F401


def use_threads(count: int) -> None:
    """Let torch compute on ``count`` threads from now on, in this thread and new ones."""
    import torch

    torch.set_num_threads(count)


def sample_work() -> Trial:
    """Some of what every decoder computes, for stages whose own batches differ too much to time.

    A gated layer over 512 positions of 256 channels: large products with small steps between them.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    x_tc, up_ch, down_hc = (
        torch.randn(*size, generator=generator) for size in ((512, 256), (256, 768), (768, 256))
    )

    def trial() -> None:
        hidden_tc = x_tc
        with torch.inference_mode():
            for _ in range(4):
                inner_th = torch.nn.functional.silu(hidden_tc @ up_ch)
                hidden_tc = torch.nn.functional.layer_norm(inner_th @ down_hc, (256,))
                hidden_tc = torch.softmax(hidden_tc, dim=-1)

    return trial


def read_turns(path: Path) -> list[Turn]:
    """The turns of a journal; none where there is no such file.

    Raises:
        DataError: the journal is damaged.
    """
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())["turns"]
        turns = [Turn(int(at), int(threads)) for at, threads in rows]
        ordered = all(one.at < other.at for one, other in pairwise(turns))
        if not ordered or any(turn.threads < 1 for turn in turns):
            raise ValueError("turns out of order, or on no thread")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name} is damaged ({error}); delete it to measure anew") from error
    return turns
