"""Tuning of the threads that the served graph decodes on, at the start and while it serves.

An onnxruntime session has its number of threads for life, so another number is another session of
the same file; a small model's is open within a tenth of a second. Once requests come, the program
that serves them computes beside the model. So the numbers are compared on the very steps that are
decoded for them, some on each session in turn: after the first steps, when steps of as many rows
grow much slower, and now and then. Nothing is computed twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.core.log import get_logger
from components.core.process.thread_search import (
    SlowdownWatch,
    fewest_fast_threads,
    is_worth_changing,
    thread_counts_to_try,
    thread_limit,
    time_thread_counts,
)
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.ragged_runtime import Ids, Logits, RaggedBatch

TRIAL_ROWS = 16
"""Decoded together at the start, or as many as there are slots."""
TRIAL_CONTEXT = 512
"""Positions of a row in the trial, or as many as the model has: memory is for those who ask."""
FIRST_STEPS = 64
"""Decoded steps before the numbers are compared on such for the first time."""
ROUND_STEPS, ROUNDS = 8, 2
"""Steps on one session before the next one's turn comes, and turns of each."""
MAX_OTHER_STEPS = 500
"""Steps of other numbers of rows, after which a comparison is given up: its kind comes no more."""
MAX_OPEN_SECONDS = 0.5
"""To open a session in; a larger model keeps the number it began with, since every stream would
wait for two more sessions, which hold its weights again."""
log = get_logger(__name__)
Clock = Callable[[], float]


@dataclass
class _Comparison:
    """Steps of ``rows`` rows, on each session in turn."""

    rows: int
    sessions: dict[int, Any]
    order: list[int]
    seconds: dict[int, list[float]] = field(default_factory=dict)
    others: int = 0
    """Steps of other numbers of rows since it began."""

    @property
    def count(self) -> int:
        """Threads of the next step."""
        done = sum(map(len, self.seconds.values()))
        return self.order[done // ROUND_STEPS % len(self.order)]

    def note(self, seconds: float) -> dict[int, float] | None:
        """Record a step; median seconds by threads once every session had its turns, else None."""
        self.seconds.setdefault(self.count, []).append(seconds)
        if sum(map(len, self.seconds.values())) < ROUND_STEPS * ROUNDS * len(self.order):
            return None
        return {count: float(np.median(taken)) for count, taken in self.seconds.items()}


class DecodingThreads:
    """Tuner of the threads of one model's session; not safe to use from two threads at once.

    Args:
        model: its session is replaced by one with another number of threads.
        requested: a fixed number of threads; None has it measured.
        slots: rows that may be decoded together.
        limit: the most threads; by default what this process may use.
        clock: seconds; a test has its own.
    """

    def __init__(
        self,
        model: OnnxModel,
        requested: int | None,
        *,
        slots: int = TRIAL_ROWS,
        limit: int | None = None,
        clock: Clock = time.perf_counter,
    ) -> None:
        self._model, self._clock, self._slots = model, clock, slots
        self._counts = [requested] if requested else thread_counts_to_try(limit or thread_limit())
        self._watches: dict[int, SlowdownWatch] = {}
        self._comparison: _Comparison | None = None
        self._steps, self._opened_seconds = 0, 0.0
        self.threads = self._counts[0]
        self._opened: int | None = None
        """Threads of the session at work, where it was opened here."""

    def start(self) -> None:
        """Open the session that decodes quickest while nothing else goes on."""
        if len(self._counts) == 1:
            self._open_session(self._counts[0])
            return
        rows = min(TRIAL_ROWS, self._slots)
        batch = RaggedBatch(self._model, rows, min(self._model.context, TRIAL_CONTEXT))
        for _ in range(rows):
            batch.join()

        def trial() -> None:
            if not batch.remaining_context(0):
                for _ in range(rows):
                    batch.leave(0)
                for _ in range(rows):
                    batch.join()
            batch.step([0] * rows)

        # One session at a time, since each holds the weights: the one before closes.
        seconds = time_thread_counts(trial, self._counts, self._open_session, self._clock)
        self._open_session(fewest_fast_threads(seconds))
        self._log_timings(seconds, "at the start")

    def step(self, rows: int, decode: Callable[[], Logits]) -> Logits:
        """Decode one token for ``rows`` rows, on the threads whose turn it is."""
        if len(self._counts) == 1:
            return decode()
        begins = self.opens_sessions(rows)
        self._steps += 1
        watch = self._watches.setdefault(rows, SlowdownWatch(self._clock))
        if begins:
            self._begin_comparison(rows)
        comparison = self._comparison
        if comparison is not None and comparison.rows == rows:
            self._model.use(comparison.sessions[comparison.count])
            logits, seconds = self._time_decode(decode)
            if (medians := comparison.note(seconds)) is not None:
                self._finish_comparison(comparison, medians)
            return logits
        if comparison is not None:
            self._model.use(comparison.sessions[self.threads])
            comparison.others += 1
            if comparison.others > MAX_OTHER_STEPS:
                self._finish_comparison(comparison, {self.threads: 0.0})
        logits, seconds = self._time_decode(decode)
        watch.note_step(seconds)
        return logits

    def opens_sessions(self, rows: int) -> bool:
        """True if the next step of so many rows begins a comparison, which takes long."""
        if len(self._counts) == 1 or not self._can_compare:
            return False
        watch = self._watches.setdefault(rows, SlowdownWatch(self._clock))
        return self._steps + 1 == FIRST_STEPS or watch.is_due()

    def _open_session(self, count: int) -> None:
        """Open a session in place of the present one, unless it is the same."""
        if count == self._opened:
            return
        began = self._clock()
        self._model.use(self._model.open(count))
        self._opened_seconds = self._clock() - began
        self._opened = self.threads = count

    @property
    def _can_compare(self) -> bool:
        """True where no comparison is under way and opening a session takes little time."""
        return self._comparison is None and self._opened_seconds <= MAX_OPEN_SECONDS

    def _time_decode(self, decode: Callable[[], Logits]) -> tuple[Logits, float]:
        began = self._clock()
        logits = decode()
        return logits, self._clock() - began

    def _begin_comparison(self, rows: int) -> None:
        """Start to compare the number in use with the next higher and the next lower one."""
        began = self._clock()
        place = self._counts.index(self.threads)
        sessions = {self.threads: self._model.session}
        for count in self._counts[max(0, place - 1) : place + 2]:
            if count != self.threads:
                sessions[count] = self._model.open(count)
        self._comparison = _Comparison(rows, sessions, list(sessions))
        self._opened_seconds = self._clock() - began

    def _finish_comparison(self, comparison: _Comparison, medians: dict[int, float]) -> None:
        self._comparison = None
        chosen = (
            fewest_fast_threads(medians)
            if is_worth_changing(self.threads, medians)
            else self.threads
        )
        changed = chosen != self.threads
        for watch in self._watches.values():
            watch.restart(measuring_seconds=self._opened_seconds, changed=changed)
        self._adopt_session(
            chosen, comparison.sessions, medians, f"decoding {comparison.rows} rows"
        )

    def _adopt_session(
        self, count: int, sessions: dict[int, Any], seconds: dict[int, float], when: str
    ) -> None:
        """Continue with one session; the others close as their last reference goes."""
        self._model.use(sessions[count])
        self._opened = self.threads = count
        self._log_timings(seconds, when)

    def _log_timings(self, seconds: dict[int, float], when: str) -> None:
        timed = ", ".join(f"{taken * 1e3:.3g} ms on {n}" for n, taken in sorted(seconds.items()))
        log.info("%s: %d threads (a step: %s)", when, self.threads, timed)


class ThreadTunedBatch(RaggedBatch):
    """Ragged batch whose steps run on the number of threads that ``DecodingThreads`` chooses.

    Args:
        model: the graph.
        threads: tuner of its session.
        context: most tokens of a row.
        slots: most rows.
    """

    def __init__(
        self, model: OnnxModel, threads: DecodingThreads, context: int, slots: int
    ) -> None:
        super().__init__(model, slots, context)
        self._threads = threads

    def step(self, tokens: Ids) -> Logits:
        """Decode one token for each row, as ``RaggedBatch.step`` does, and time it."""
        return self._threads.step(len(tokens), lambda: RaggedBatch.step(self, tokens))

    def opens_sessions(self, rows: int) -> bool:
        """True if the next step of so many rows takes long, since it opens further sessions."""
        return self._threads.opens_sessions(rows)
