"""FCFS continuous-batching scheduler with chunked prefill.

Pure bookkeeping, without a model or a clock. Each step it says which rows leave the batch, how
many join, which chunks of prompts are read and which token every running row is fed. Long prompts
go in by chunks, so that they do not hold up those who are already being answered.
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
class DecodingSequence:
    """One sequence: its prompt, and how far it is."""

    prompt: Sequence[int]
    cached: int = 0
    """Tokens of the prompt that are in the cache."""
    last_token: int = IDLE
    """The token drawn last, not yet in the cache."""
    adapter: int = 0
    """Number of the adapter that its row computes with; 0 is none."""
    finished: bool = False
    """Finished or given up: its row is freed at the next step."""

    @property
    def decoding(self) -> bool:
        """The whole prompt has been read."""
        return self.cached == len(self.prompt)


@dataclass(frozen=True)
class PromptChunk:
    """A chunk of a prompt for one row; ``last``: the prompt ends with it."""

    row: int
    job: DecodingSequence
    tokens: Sequence[int]
    last: bool


@dataclass(frozen=True)
class BatchStep:
    """One step, in this order: rows leave, rows join, chunks are read, one token is decoded."""

    leaves: list[int]
    joins: int
    chunks: list[PromptChunk]
    rows: list[DecodingSequence]
    """The sequence in each row once all have left and joined."""
    tokens: list[int]
    """A token for every row, or IDLE."""

    @property
    def joined(self) -> list[DecodingSequence]:
        """The sequences that join, in the order of their rows."""
        return self.rows[len(self.rows) - self.joins :]

    @property
    def empty(self) -> bool:
        """True for a step without joins, leaves, prompts or decoding."""
        return not (self.leaves or self.joins or self.chunks or self.decodes)

    @property
    def decodes(self) -> bool:
        """Some row is fed a token."""
        return any(token != IDLE for token in self.tokens)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of prompts that are read."""
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass
class Scheduler:
    """First come, first served: at most ``slots`` rows run and ``queue`` sequences wait."""

    slots: int
    queue: int
    rows: list[DecodingSequence] = field(default_factory=list)
    waiting: deque[DecodingSequence] = field(default_factory=deque)

    def submit(self, job: DecodingSequence) -> None:
        """Queue a sequence.

        Raises:
            QueueFull: as many wait as may.
        """
        free = self.slots - len(self.rows)
        if len(self.waiting) >= self.queue + free:
            self.waiting = deque(waiting for waiting in self.waiting if not waiting.finished)
        if len(self.waiting) >= self.queue + free:
            raise QueueFull
        self.waiting.append(job)

    @property
    def decoding(self) -> bool:
        """Some row is fed a token in the next step."""
        return any(job.decoding and not job.finished for job in self.rows)

    def schedule_step(self, prompt_tokens: int) -> BatchStep:
        """Decide on the next step, and take it as done.

        Args:
            prompt_tokens: most tokens of prompts that it reads.
        """
        leaves = self._free_rows()
        joins = self._admit_waiting()
        tokens = [job.last_token if job.decoding else IDLE for job in self.rows]
        return BatchStep(leaves, joins, self._chunk_prompts(prompt_tokens), list(self.rows), tokens)

    def clear(self) -> list[DecodingSequence]:
        """Drop everything; returns the sequences that were not finished."""
        dropped = [job for job in (*self.rows, *self.waiting) if not job.finished]
        self.rows.clear()
        self.waiting.clear()
        return dropped

    def _free_rows(self) -> list[int]:
        """Free the rows of finished sequences; the last row takes a freed one's place."""
        leaves = [row for row, job in enumerate(self.rows) if job.finished][::-1]
        for row in leaves:
            self.rows[row] = self.rows[-1]
            self.rows.pop()
        return leaves

    def _admit_waiting(self) -> int:
        """Give free rows to waiting sequences; returns how many joined."""
        before = len(self.rows)
        while self.waiting and len(self.rows) < self.slots:
            job = self.waiting.popleft()
            if not job.finished:
                self.rows.append(job)
        return len(self.rows) - before

    def _chunk_prompts(self, budget: int) -> list[PromptChunk]:
        """Cut chunks of prompts, in the order of arrival, within one step's budget of tokens."""
        pieces: list[PromptChunk] = []
        for row, job in enumerate(self.rows):
            if job.decoding or budget == 0:
                continue
            tokens = job.prompt[job.cached : job.cached + budget]
            job.cached += len(tokens)
            budget -= len(tokens)
            pieces.append(PromptChunk(row, job, tokens, job.decoding))
        return pieces
