"""Continuous-batching scheduler with chunked prefill and prefix reuse, fair between clients.

Pure bookkeeping, without a model. Each step it says which rows leave the batch, how many join,
which begin with what was read before, which chunks of prompts are read and which token every
running row is fed. Long prompts go in by chunks, so that they do not hold up those who are already
being answered.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from serving.engine.prefix_cache import BLOCK_TOKENS, PrefixBlocks, PrefixCache, PrefixEntry
from serving.engine.waiting_queue import (
    IDLE,
    DecodingSequence,
    QueueFull,
    QueuePace,
    WaitingQueue,
)

MOST_SAVES = 2
"""Rows whose keys and values are kept of those freed in one step: copying holds up the others."""
LEAST_CHUNK = 2
"""Tokens of a chunk: a call with one takes other kernels, whose sums round otherwise, so that where
a prompt is cut would change its answer (by 0.1 in a logit over INT8 weights). All other cuts give
the same bits."""
LOOK_SECONDS = 0.02
"""Between looks at deadlines while rows only grow: a pass of the scheduler takes as long as a
twentieth of a small model's step, and limits are seconds."""


@dataclass(frozen=True)
class PromptChunk:
    """A chunk of a prompt for one row; ``last``: the prompt ends with it."""

    row: int
    job: DecodingSequence
    tokens: Sequence[int]
    last: bool


@dataclass(frozen=True)
class PrefixSave:
    """Keys and values to keep of a row that leaves; its number before any leaves."""

    row: int
    blocks: PrefixBlocks


@dataclass(frozen=True)
class PrefixCopy:
    """A row that begins with ``length`` tokens of an entry, or of another row."""

    row: int
    source: PrefixEntry | int
    length: int


@dataclass(frozen=True)
class BatchStep:
    """One step, in this order: rows are saved, leave and join; prefixes and chunks; a token."""

    saves: list[PrefixSave]
    leaves: list[int]
    joins: int
    copies: list[PrefixCopy]
    chunks: list[PromptChunk]
    rows: list[DecodingSequence]
    """The sequence in each row once all have left and joined."""
    tokens: list[int]
    """A token for every row, or IDLE."""
    decodes: bool
    """Some row is fed a token."""

    @cached_property
    def active(self) -> list[int]:
        """The rows that are fed a token."""
        return [row for row, token in enumerate(self.tokens) if token >= 0]

    @cached_property
    def decoded(self) -> list[DecodingSequence]:
        """The sequences of these rows."""
        return [self.rows[row] for row in self.active]

    @property
    def moves(self) -> bool:
        """Rows are saved, leave, join or begin with what was read before."""
        return bool(self.saves or self.leaves or self.joins or self.copies)

    @property
    def joined(self) -> list[DecodingSequence]:
        """The sequences that join, in the order of their rows."""
        return self.rows[len(self.rows) - self.joins :]

    @cached_property
    def empty(self) -> bool:
        """True for a step without joins, leaves, prompts or decoding."""
        return not (self.leaves or self.joins or self.copies or self.chunks or self.decodes)

    @cached_property
    def prompt_tokens(self) -> int:
        """Tokens of prompts that are read."""
        return sum(len(chunk.tokens) for chunk in self.chunks)


@dataclass
class Scheduler:
    """At most ``slots`` rows run and ``queue`` sequences wait.

    Args:
        slots: rows.
        queue: sequences that may wait.
        prefixes: what was read before.
        queue_seconds: longest wait for a row.
        answer_seconds: longest time in a row.
        wait_seconds: longest wait for a row that a newcomer may expect.
        least_queue: sequences that may wait however long it takes, if ``queue`` is no less.
        keeps_answers: answers are kept among ``prefixes`` as prompts are; False where what is read
            of them afterwards would differ by a bit from what was decoded.
        clock: seconds; a test has its own.
    """

    slots: int
    queue: int
    prefixes: PrefixCache = field(default_factory=lambda: PrefixCache(0))
    queue_seconds: float = math.inf
    answer_seconds: float = math.inf
    wait_seconds: float = math.inf
    least_queue: int = 0
    keeps_answers: bool = True
    clock: Callable[[], float] = time.monotonic
    rows: list[DecodingSequence] = field(default_factory=list)
    waiting: WaitingQueue = field(default_factory=WaitingQueue)
    pace: QueuePace = field(default_factory=QueuePace)
    _steady: BatchStep | None = None
    """A step that can be made again: it feeds a token to each row, and does nothing else."""
    _next_look: float = 0.0
    """Moment from which on deadlines are looked at again."""

    def submit(self, job: DecodingSequence) -> None:
        """Queue a sequence.

        Raises:
            QueueFull: as many wait as may.
        """
        job.arrived = self.clock()
        self.waiting.submit(job, self._most_waiting(), self._rows_by_client())

    def check_queue(self, client: str) -> None:
        """Refuse a client's request that could not be queued now, before work is done for it.

        Raises:
            QueueFull: as many wait as may.
        """
        if self.waiting.refuses(client, self._most_waiting(), self._rows_by_client()):
            self.waiting.refused += 1
            raise QueueFull

    @property
    def decoding(self) -> bool:
        """Some row is fed a token in the next step."""
        return any(job.decoding and not job.finished for job in self.rows)

    def schedule_step(self, prompt_tokens: int) -> BatchStep:
        """Decide on the next step, and take it as done.

        Args:
            prompt_tokens: most tokens of prompts that it reads.
        """
        now = self.clock()
        self._next_look = now + LOOK_SECONDS
        self._end_overdue(now)
        saves, leaves = self._free_rows()
        joins = self._admit_waiting()
        crowded = bool(self.waiting.clients) and len(self.rows) == self.slots
        self.pace.note_step(self.clock(), joins, crowded=crowded)
        tokens = [IDLE] * len(self.rows)
        reading: list[DecodingSequence] = []
        for row, job in enumerate(self.rows):
            if job.decoding:
                tokens[row] = job.last_token
                job.fed += 1
            else:
                reading.append(job)
        decodes = len(reading) < len(self.rows)
        copies: list[PrefixCopy] = []
        chunks: list[PromptChunk] = []
        if reading:
            places = {id(job): row for row, job in enumerate(self.rows)}
            reading.sort(key=lambda job: (job.admitted, places[id(job)]))
            copies = self._copy_prefixes(reading, places, 1 if decodes else self.slots, saves)
            chunks = self._chunk_prompts(reading, places, prompt_tokens)
        rows = list(self.rows)
        steady = bool(rows) and not reading
        self._steady = BatchStep([], [], 0, [], [], rows, tokens, True) if steady else None
        return BatchStep(saves, leaves, joins, copies, chunks, rows, tokens, decodes)

    def repeat_step(self) -> BatchStep | None:
        """The next step, where it is the last one with the next tokens; None where it may not be.

        That is so for nearly all of an answer: no row joined, left, ended or reads a prompt, and
        nobody waits.
        """
        step = self._steady
        if step is None or self.waiting.clients or self.clock() >= self._next_look:
            return None
        for job in step.rows:
            if job.finished:
                return None
        tokens = step.tokens
        for row, job in enumerate(step.rows):
            tokens[row] = job.last_token
            job.fed += 1
        return step

    def clear(self) -> list[DecodingSequence]:
        """Drop everything; returns the sequences that were not finished."""
        dropped = [job for job in (*self.rows, *self.waiting) if not job.finished]
        self.rows.clear()
        self.waiting.clear()
        self.prefixes.clear()
        self.pace = QueuePace()
        self._steady = None
        return dropped

    def _most_waiting(self) -> int:
        """Sequences that may wait, those included that get the rows which are free."""
        served = self.pace.count_served(min(self.wait_seconds, self.queue_seconds))
        most = int(min(self.queue, max(self.least_queue, served)))
        return most + self.slots - len(self.rows)

    def _rows_by_client(self) -> Counter[str]:
        return Counter(job.client for job in self.rows if not job.finished)

    def _end_overdue(self, now: float) -> None:
        """End what waits or grows for too long."""
        if self.waiting.clients:
            self.waiting.expire(now - self.queue_seconds)
        earliest = now - self.answer_seconds
        for job in self.rows:
            if job.admitted is not None and job.admitted < earliest and not job.finished:
                job.run_out()

    def _free_rows(self) -> tuple[list[PrefixSave], list[int]]:
        """Free the rows of finished sequences; the last row takes a freed one's place."""
        leaves = [row for row, job in enumerate(self.rows) if job.finished][::-1]
        saves: list[PrefixSave] = []
        for row in leaves:
            cached = self._kept_tokens(self.rows[row]) if len(saves) < MOST_SAVES else ()
            if len(cached) >= BLOCK_TOKENS and self.prefixes.most_bytes:
                blocks = PrefixBlocks.of(cached, self.rows[row].adapter)
                if self.prefixes.wants(blocks):
                    saves.append(PrefixSave(row, blocks))
        for row in leaves:
            self.rows[row] = self.rows[-1]
            self.rows.pop()
        return saves, leaves

    def _kept_tokens(self, job: DecodingSequence) -> Sequence[int]:
        """Tokens in a row's cache that another row may begin with."""
        return job.cached_tokens() if self.keeps_answers else job.prompt[: job.cached]

    def _admit_waiting(self) -> int:
        """Give free rows to waiting sequences; returns how many joined."""
        if not self.waiting.clients or len(self.rows) == self.slots:
            return 0
        before, held, now = len(self.rows), self._rows_by_client(), self.clock()
        while len(self.rows) < self.slots and (job := self.waiting.take(held)) is not None:
            job.admit(now)
            job.begun = not self.prefixes.most_bytes or len(job.prompt) <= BLOCK_TOKENS
            self.rows.append(job)
        return len(self.rows) - before

    def _copy_prefixes(
        self,
        reading: list[DecodingSequence],
        places: dict[int, int],
        most: int,
        saves: list[PrefixSave],
    ) -> list[PrefixCopy]:
        """Let rows begin with what was read before.

        Args:
            reading: rows whose prompts are not read to the end.
            places: their rows, by id.
            most: copies in this step: they take time.
            saves: of rows that leave in this step; they can be found in the next.
        """
        copies: list[PrefixCopy] = []
        for job in reading:
            if job.begun:
                continue
            source = job.source
            if source and not source.finished and source.cached < job.source_length:
                continue
            if len(copies) < most and (copy := self._find_prefix(job, places, saves)):
                copies.append(copy)
                job.cached = job.cached_prompt_tokens = copy.length
        return copies

    def _find_prefix(
        self, job: DecodingSequence, places: dict[int, int], saves: list[PrefixSave]
    ) -> PrefixCopy | None:
        """Find the longest beginning that is there, unless a longer one will be soon: wait."""
        blocks = job.blocks = job.blocks or PrefixBlocks.of(job.prompt, job.adapter)
        # The end is read, since its logits are wanted.
        most = max(0, len(job.prompt) - LEAST_CHUNK)
        entry, length = self.prefixes.find(blocks)
        length = min(length, most)
        source: PrefixEntry | int | None = entry
        pending, longest = None, length + BLOCK_TOKENS
        for row, other in enumerate(self.rows):
            if other is job or other.blocks is None or not other.begun:
                continue
            common = min(blocks.common_length(other.blocks), most)
            if min(common, other.cached) > length:
                source, length = row, min(common, other.cached)
            if common >= longest and common > other.cached:
                pending, longest = other, common
        job.source = None
        saved = max((save.blocks.common_length(blocks) for save in saves), default=0)
        if min(saved, most) >= length + BLOCK_TOKENS:
            return None
        if pending is not None and longest >= length + BLOCK_TOKENS:
            job.source, job.source_length = pending, longest
            return None
        job.begun = True
        if source is None or length < BLOCK_TOKENS:
            return None
        return PrefixCopy(places[id(job)], source, length)

    def _chunk_prompts(
        self, reading: list[DecodingSequence], places: dict[int, int], budget: int
    ) -> list[PromptChunk]:
        """Cut chunks of prompts, in the order of arrival, within one step's budget of tokens."""
        pieces: list[PromptChunk] = []
        for job in reading:
            if budget == 0:
                break
            if not job.begun:
                continue
            size = size_chunk(len(job.prompt) - job.cached, budget)
            tokens = job.prompt[job.cached : job.cached + size]
            job.cached += size
            budget = max(0, budget - size)
            pieces.append(PromptChunk(places[id(job)], job, tokens, job.decoding))
        return pieces


def size_chunk(left: int, budget: int) -> int:
    """Tokens of a prompt's next chunk: no chunk is shorter than LEAST_CHUNK, nor is the rest.

    Args:
        left: tokens of the prompt that are to be read; one only where it has no more.
        budget: tokens that may be read; a chunk may have one or two more.
    """
    size = min(left, max(budget, LEAST_CHUNK))
    if 0 < left - size < LEAST_CHUNK:
        size = left if size - 1 < LEAST_CHUNK else size - 1
    return size
