"""Who is decoded next: first come, first served, joining and leaving between two steps.

Pure bookkeeping, without a model or a clock. Each turn it says which rows leave the batch, how
many join, which pieces of prompts are read and which token every running row is fed. Long prompts
go in by pieces, so that they do not hold up those who are already being answered.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

IDLE = -1
"""In place of a token: nothing for this row in this step (as in ``ragged_runtime``)."""


class QueueFull(Exception):
    """As many requests wait as may."""


@dataclass(eq=False)
class Job:
    """One sequence: its prompt, and how far it is."""

    prompt: Sequence[int]
    read: int = 0
    """Tokens of the prompt that are in the cache."""
    last: int = IDLE
    """The token drawn last, not yet in the cache."""
    over: bool = False
    """Finished or given up: its row is freed at the next turn."""

    @property
    def decoding(self) -> bool:
        """The whole prompt has been read."""
        return self.read == len(self.prompt)


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt for one row; ``last``: the prompt ends with it."""

    row: int
    job: Job
    tokens: Sequence[int]
    last: bool


@dataclass(frozen=True)
class Plan:
    """One turn, in this order: rows leave, rows join, pieces are read, one step is decoded."""

    leaves: list[int]
    joins: int
    pieces: list[Piece]
    rows: list[Job]
    """Who sits in which row once all have left and joined."""
    tokens: list[int]
    """A token for every row, or IDLE."""

    @property
    def empty(self) -> bool:
        """Nothing to do."""
        return not (self.leaves or self.joins or self.pieces or self.decodes)

    @property
    def decodes(self) -> bool:
        """Some row is fed a token."""
        return any(token != IDLE for token in self.tokens)


@dataclass
class Scheduler:
    """At most ``slots`` rows run and ``queue`` jobs wait."""

    slots: int
    queue: int
    prefill_tokens: int
    rows: list[Job] = field(default_factory=list)
    waiting: deque[Job] = field(default_factory=deque)

    def submit(self, job: Job) -> None:
        """Let a job in.

        Raises:
            QueueFull: as many wait as may.
        """
        free = self.slots - len(self.rows)
        if len(self.waiting) >= self.queue + free:
            self.waiting = deque(waiting for waiting in self.waiting if not waiting.over)
        if len(self.waiting) >= self.queue + free:
            raise QueueFull
        self.waiting.append(job)

    def plan(self) -> Plan:
        """What to do in the next turn; takes it as done."""
        leaves = self._leave()
        joins = self._join()
        tokens = [job.last if job.decoding else IDLE for job in self.rows]
        return Plan(leaves, joins, self._read(), list(self.rows), tokens)

    def clear(self) -> list[Job]:
        """Drop everybody; returns those who were not over."""
        dropped = [job for job in (*self.rows, *self.waiting) if not job.over]
        self.rows.clear()
        self.waiting.clear()
        return dropped

    def _leave(self) -> list[int]:
        """Free the rows of jobs that are over; the last row takes a freed one's place."""
        leaves = [row for row, job in enumerate(self.rows) if job.over][::-1]
        for row in leaves:
            self.rows[row] = self.rows[-1]
            self.rows.pop()
        return leaves

    def _join(self) -> int:
        before = len(self.rows)
        while self.waiting and len(self.rows) < self.slots:
            job = self.waiting.popleft()
            if not job.over:
                self.rows.append(job)
        return len(self.rows) - before

    def _read(self) -> list[Piece]:
        """Pieces of prompts, in the order of arrival, within one turn's budget of tokens."""
        pieces: list[Piece] = []
        budget = self.prefill_tokens
        for row, job in enumerate(self.rows):
            if job.decoding or budget == 0:
                continue
            tokens = job.prompt[job.read : job.read + budget]
            job.read += len(tokens)
            budget -= len(tokens)
            pieces.append(Piece(row, job, tokens, job.decoding))
        return pieces
