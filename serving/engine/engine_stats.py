"""Counters and histograms of an engine: what a monitor is told.

Plain integers, since a step of a small model takes less than a call of a metrics library; a page
of metrics reads them when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from serving.engine.generation import Generation
from serving.engine.scheduler import BatchStep
from serving.engine.waiting_queue import DecodingSequence

FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a small model's prefill to a minute in the queue."""
TOKEN_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
"""From 4,000 tokens a second of a model of some million weights to one."""
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Powers of two up to the most slots that there can be."""


class Histogram:
    """Counts of values by bucket, and their sum.

    Args:
        bounds: upper bounds of the buckets, rising; a last bucket has none.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.total = bounds, 0.0
        self.counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, values up to it), as Prometheus has histograms."""
        seen = 0
        pairs: list[tuple[str, float]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            pairs.append(("+Inf" if bound == float("inf") else f"{bound:g}", seen))
        return pairs


@dataclass
class EngineStats:
    """Figures of one engine since it started."""

    steps: int = 0
    prompt_tokens_read: int = 0
    """Tokens of prompts that went through the model."""
    step_rows: Histogram = field(default_factory=lambda: Histogram(BATCH_ROWS))
    queue: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    """Seconds from a request to its row."""
    first_token: Histogram = field(default_factory=lambda: Histogram(FIRST_TOKEN_SECONDS))
    """Seconds from a request to its first token."""
    token_seconds: Histogram = field(default_factory=lambda: Histogram(TOKEN_SECONDS))
    """Mean seconds between the tokens of an answer, of each that ended."""

    def note_joined(self, answers: Iterable[DecodingSequence]) -> None:
        """Record answers that got a row."""
        for answer in answers:
            self.queue.add((answer.admitted or answer.arrived) - answer.arrived)

    def note_step(self, step: BatchStep, answers: Iterable[Generation], now: float) -> None:
        """Record a step.

        Args:
            step: as it was run.
            answers: those that got a token, which they have accepted.
            now: moment of the tokens, by the scheduler's clock.
        """
        self.steps += 1
        self.prompt_tokens_read += step.prompt_tokens
        self.step_rows.add(len(step.rows))
        for answer in answers:
            if answer.first_token is None:
                answer.first_token = now
                self.first_token.add(now - answer.arrived)
            if answer.finish_reason is not None and len(answer.tokens) > 1:
                self.token_seconds.add((now - answer.first_token) / (len(answer.tokens) - 1))
