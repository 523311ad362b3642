"""Tuner of torch's number of threads: measured, journalled, replayed by a resumed stage.

Threads synchronise some hundred times a step. One that shares its core with another program delays
all of them, so beside a busy neighbour fewer are often faster. The number is measured on the work
itself when it starts, again when its steps become much slower, and now and then, since a neighbour
may have gone or been there from the first step on.

bfloat16 products are bit-equal from run to run only at an equal number of threads, so each choice
is journalled in the stage's scratch folder, with the step from which it holds, before that step: a
killed stage that is called again replays the same choices.
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
    SLOWDOWN_LIMIT,
    SlowdownWatch,
    TrialStep,
    fewest_fast_threads,
    is_worth_changing,
    thread_counts_to_try,
    thread_limit,
    time_thread_counts,
)
from components.core.store.artifact import canonical_json
from components.core.store.workdir import Workdir
from components.core.thread_settings import thread_count

TRAINING_JOURNAL, STAGE_JOURNAL = "threads.json", "stage_threads.json"
"""Journals of a training, whose steps are numbered, and of any other computation of a stage."""
TrialContext = Callable[[], AbstractContextManager[None]]
log = get_logger(__name__)


@dataclass(frozen=True)
class ThreadChoice:
    """Number of threads from one step on."""

    from_step: int
    threads: int


class ThreadTuner:
    """Context in which one stage computes on a tuned number of threads; restored at its end.

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
        journal: str = TRAINING_JOURNAL,
        *,
        limit: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._work, self._path, self._clock = work, work.scratch / journal, clock
        self._limit = limit or thread_limit()
        self._fixed_threads = thread_count()
        self.choices = read_choices(self._path)
        self._watch = SlowdownWatch(clock)

    def __enter__(self) -> ThreadTuner:
        shutdown.load_native_code(_load_torch)  # seconds, at the first stage that needs it
        import torch

        self._former_threads = torch.get_num_threads()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        set_torch_threads(self._former_threads)

    def settle_threads(
        self, step: int, trial: TrialStep | None = None, trial_context: TrialContext = nullcontext
    ) -> bool:
        """Set the number of threads for ``step``: the journalled one, or measure if that is due.

        Args:
            step: the next one; an earlier try's choice for it is replayed.
            trial: a representative step; None takes a sample of what decoders compute.
            trial_context: around all trials of a measurement; undoes what they changed.

        Returns:
            Whether time was spent on measuring.
        """
        held, measured = self._choice_at(step), False
        if self._fixed_threads is not None:
            if held is None or held.threads != self._fixed_threads:
                self._journal_choice(ThreadChoice(step, self._fixed_threads))
        elif held is None or self._measurement_due(step, held):
            measured = self._measure(step, held, trial or sample_decoder_step(), trial_context)
        held = self._choice_at(step)
        assert held is not None
        set_torch_threads(held.threads)
        self._work.threads = held.threads
        return measured

    def note_step(self, seconds: float) -> None:
        """Record the seconds of the last step."""
        self._watch.note_step(seconds)

    def _measurement_due(self, step: int, held: ThreadChoice) -> bool:
        known = step <= self.choices[-1].from_step  # an earlier try has been here
        return not known and self._watch.is_due() and len(self._counts_to_try(held)) > 1

    def _choice_at(self, step: int) -> ThreadChoice | None:
        return next((turn for turn in reversed(self.choices) if turn.from_step <= step), None)

    def _measure(
        self, step: int, held: ThreadChoice | None, trial: TrialStep, trial_context: TrialContext
    ) -> bool:
        counts = self._counts_to_try(held)
        if len(counts) == 1:
            self._journal_choice(ThreadChoice(step, counts[0]))
            return False
        slowdown, began = self._watch.slowdown, self._clock()
        with trial_context():
            seconds = time_thread_counts(trial, counts, set_torch_threads, self._clock)
        chosen = fewest_fast_threads(seconds)
        if held is not None and not is_worth_changing(held.threads, seconds):
            chosen = held.threads
        changed = held is None or held.threads != chosen
        self._watch.restart(measuring_seconds=self._clock() - began, changed=changed)
        if changed:
            self._journal_choice(ThreadChoice(step, chosen))
            self._log_choice(step, held, slowdown, seconds, chosen)
        return True

    def _counts_to_try(self, held: ThreadChoice | None) -> list[int]:
        """Candidates and the number in use, which a machine with more cores may have journalled."""
        counts = {*thread_counts_to_try(self._limit)}
        return sorted(counts if held is None else counts | {held.threads}, reverse=True)

    def _journal_choice(self, turn: ThreadChoice) -> None:
        """Journal a choice; later ones belong to steps that will be repeated."""
        self.choices = [
            earlier for earlier in self.choices if earlier.from_step < turn.from_step
        ] + [turn]
        write_atomically(
            self._path, canonical_json({"turns": [astuple(choice) for choice in self.choices]})
        )

    def _log_choice(
        self,
        step: int,
        held: ThreadChoice | None,
        slowdown: float,
        seconds: Mapping[int, float],
        chosen: int,
    ) -> None:
        timed = ", ".join(f"{taken * 1e3:.3g} ms on {n}" for n, taken in sorted(seconds.items()))
        if held is None:
            log.info("step %d: %d of %d threads (a step: %s)", step, chosen, self._limit, timed)
            return
        why = (
            f"steps grew {slowdown:.1f} times slower"
            if slowdown > SLOWDOWN_LIMIT
            else "looked again"
        )
        log.warning(
            "step %d: %s; on with %d threads in place of %d (a step: %s)",
            *(step, why, chosen, held.threads, timed),
        )


class StageThreadTuner(ThreadTuner):
    """Tuner of a stage without uniform steps: measures once, when the stage begins."""

    def __init__(self, work: Workdir) -> None:
        super().__init__(work, STAGE_JOURNAL)

    def __enter__(self) -> ThreadTuner:
        super().__enter__()
        self.settle_threads(0)
        return self


def _load_torch() -> None:
    import torch  # noqa: F401


def set_torch_threads(count: int) -> None:
    """Set torch's number of threads for this thread and new ones."""
    import torch

    torch.set_num_threads(count)


def sample_decoder_step() -> TrialStep:
    """Trial step for stages whose own batches vary too much to be timed.

    A gated layer over 512 positions of 256 channels, as every decoder has: large products with
    small element-wise steps between them.
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


def read_choices(path: Path) -> list[ThreadChoice]:
    """Read a journal's choices; none where there is no such file.

    Raises:
        DataError: the journal is damaged.
    """
    if not path.is_file():
        return []
    try:
        rows = json.loads(path.read_bytes())["turns"]
        turns = [ThreadChoice(int(at), int(threads)) for at, threads in rows]
        ordered = all(first.from_step < second.from_step for first, second in pairwise(turns))
        if not ordered or any(turn.threads < 1 for turn in turns):
            raise ValueError("choices out of order, or on no thread")
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name} is damaged ({error}); delete it to measure anew") from error
    return turns
