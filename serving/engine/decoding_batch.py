"""One step of the engine on the model: rows move, prompts are read, tokens are drawn."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from components.core.log import get_logger
from serving.engine.batch_sampling import BatchSampler
from serving.engine.generation import EngineFailed, Generation
from serving.engine.prefix_cache import PrefixCache
from serving.engine.sampling import Logits, TokenLogprobs
from serving.engine.scheduler import BatchStep
from serving.engine.waiting_queue import DecodingSequence
from serving.speculation.prompt_lookup import GuessingPace, PromptLookup

log = get_logger(__name__)

DrawnToken = tuple[Generation, int, TokenLogprobs | None]
SavedPrefix = NDArray[np.generic]
"""Keys and values of a row's first positions."""


class DecodingBatch(Protocol):
    """Interface of a model's batch: rows that grow, join and leave (``RaggedBatch``)."""

    def join(self, adapter: int = 0) -> int:
        """Take a free slot, for an adapter's row or one without (0); returns it, the last row."""
        ...

    def leave(self, row: int) -> int | None:
        """Free a row; the last row takes its place."""
        ...

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        """Append a piece of a prompt to each of these rows; logits behind each [rows, v]."""
        ...

    def step(self, tokens: Sequence[int]) -> Logits:
        """One token for each row in use, or IDLE; logits [rows in use, v]."""
        ...

    def opens_sessions(self, rows: int) -> bool:
        """True if the next step of so many rows takes long, since it opens further sessions."""
        ...

    @property
    def steps_as_it_reads(self) -> bool:
        """Tokens give the same bits whether they are fed one by one or together."""
        ...

    @property
    def most_guesses(self) -> int:
        """Tokens that ``check_guesses`` takes behind the first; 0 for a batch that checks none."""
        ...

    def check_guesses(self, tokens: Sequence[int]) -> Logits:
        """Feed the only row a token and guesses of those behind it; logits behind each [n, v]."""
        ...

    def rewind(self, row: int, length: int) -> None:
        """Drop what a row holds beyond its first ``length`` tokens."""
        ...

    def read_prefix(self, row: int, length: int) -> SavedPrefix:
        """Copy a row's first positions out."""
        ...

    def write_prefix(self, row: int, prefix: SavedPrefix, length: int) -> None:
        """Copy saved positions into a row, which then holds ``length`` tokens.

        Args:
            row: joined and empty.
            prefix: of ``read_prefix``.
            length: positions taken of it.
        """
        ...


class StepOutcome(NamedTuple):
    """Tokens that a step drew, and the seconds it took."""

    drawn: list[DrawnToken]
    prompt_seconds: float
    """Of rows that moved and prompts that were read."""
    decode_seconds: float
    """Of decoding and drawing."""


def execute_step(
    batch: DecodingBatch,
    plan: BatchStep,
    sampler: BatchSampler,
    prefixes: PrefixCache,
    pace: GuessingPace,
    clock: Callable[[], float] = time.perf_counter,
) -> StepOutcome:
    """Run one step on the model and draw a token for every row that got logits.

    Args:
        batch: of the model.
        plan: of the scheduler.
        sampler: draws for many rows.
        prefixes: keeps what rows that leave have read.
        pace: says where guessing tokens pays.
        clock: seconds; a test has its own.
    """
    began = clock()
    drawn: list[DrawnToken] = []
    if plan.moves:
        _move_rows(batch, plan, prefixes)
    if plan.chunks:
        logits = batch.feed_rows([c.row for c in plan.chunks], [c.tokens for c in plan.chunks])
        # Drawn before the next call of the model, which may write over these logits.
        ends = [place for place, chunk in enumerate(plan.chunks) if chunk.last]
        drawn = draw_tokens([plan.chunks[place].job for place in ends], logits, ends, sampler)
    read = clock()
    guessed = False
    if plan.decodes and pace.pays and (guesses := find_guesses(batch, plan)):
        drawn += check_guesses(batch, plan.rows[0], guesses)
        guessed = True
    elif plan.decodes:
        logits = batch.step(plan.tokens)
        drawn += draw_tokens(plan.decoded, logits, plan.active, sampler)
    decoded = clock() - read
    if len(plan.rows) == 1 and not plan.chunks:
        pace.note_step(decoded, len(drawn), guessed=guessed)
    return StepOutcome(drawn, read - began, decoded)


def find_guesses(batch: DecodingBatch, plan: BatchStep) -> list[int]:
    """Guesses for a step of a single plain row; none for any other.

    Beside other rows they would cost what they save: a step of more rows is used already.
    """
    job = plan.rows[0]
    if not batch.most_guesses or len(plan.rows) > 1 or plan.chunks:
        return []
    assert isinstance(job, Generation)
    if not job.is_plain:
        return []
    if job.lookup is None:
        job.lookup = PromptLookup([*job.prompt, *job.tokens])
    # The limit counts the token that the step draws in any case.
    return job.lookup.guess(min(batch.most_guesses, job.limit - len(job.tokens) - 1))


def check_guesses(
    batch: DecodingBatch, job: DecodingSequence, guesses: Sequence[int]
) -> list[DrawnToken]:
    """Draw the next tokens of the only row: as many as are guessed right, and one more.

    Args:
        batch: of the model.
        job: the row's answer.
        guesses: tokens behind its last one.
    """
    assert isinstance(job, Generation)
    held = len(job.prompt) + job.fed - 1
    logits = batch.check_guesses([job.last_token, *guesses])
    tokens: list[int] = logits.argmax(axis=1).tolist()
    right = 0
    while right < len(guesses) and guesses[right] == tokens[right] not in job.stops:
        right += 1
    batch.rewind(0, held + 1 + right)
    job.fed += right
    return [(job, token, None) for token in tokens[: right + 1]]


def _move_rows(batch: DecodingBatch, plan: BatchStep, prefixes: PrefixCache) -> None:
    """Let rows leave and join, and begin with what was read before."""
    for save in plan.saves:
        prefixes.add(save.blocks, batch.read_prefix(save.row, len(save.blocks.tokens)))
    for row in plan.leaves:
        batch.leave(row)
    for job in plan.joined:
        batch.join(job.adapter)
    for copy in plan.copies:
        saved = (
            batch.read_prefix(copy.source, copy.length)
            if isinstance(copy.source, int)
            else copy.source.saved
        )
        batch.write_prefix(copy.row, saved, copy.length)


def draw_tokens(
    jobs: Sequence[DecodingSequence], logits: Logits, rows: Sequence[int], sampler: BatchSampler
) -> list[DrawnToken]:
    """Draw a token for each answer by all of its rules; one whose rules fail ends alone.

    Args:
        jobs: the answers.
        logits: of the model; they stay as they are.
        rows: place of each answer in ``logits``.
        sampler: draws for many rows.
    """
    if not jobs:
        return []
    own = logits if len(rows) == len(logits) else logits[list(rows)]
    answers = cast("Sequence[Generation]", jobs)
    if all(answer.is_plain for answer in answers):
        likeliest: list[int] = own.argmax(axis=1).tolist()
        return [(answer, likeliest[place], None) for place, answer in enumerate(answers)]
    adjusted = own
    for place, answer in enumerate(answers):
        if not answer.adjusts:
            continue
        if adjusted is own:
            adjusted = own.copy()
        try:
            adjusted[place] = answer.adjust(own[place])
        except Exception as error:  # a grammar's or a rule's own, of any kind
            _fail_alone(answer, error)
    tokens = sampler.draw([answer.sampler for answer in answers], adjusted)
    drawn: list[DrawnToken] = []
    for place, (answer, chosen) in enumerate(zip(answers, tokens, strict=True)):
        if not answer.observes_draws:
            drawn.append((answer, chosen, None))
            continue
        token = chosen if answer.finished else _settle(answer, chosen)
        answer.sampler.count(token)
        drawn.append((answer, token, answer.sampler.describe(own[place], token)))
    return drawn


def _settle(answer: Generation, chosen: int) -> int:
    try:
        return answer.settle(chosen)
    except Exception as error:  # a grammar's own, of any kind
        _fail_alone(answer, error)
        return chosen


def _fail_alone(answer: Generation, error: Exception) -> None:
    log.error("an answer's rules failed", exc_info=error)
    answer.mark_failed(EngineFailed(str(error)))  # told of with the step's tokens, by the loop
