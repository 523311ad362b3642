"""Bookkeeping of the time that steps take: where the next one runs, and what of a prompt it reads.

Pure: seconds come in, decisions go out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import median

INLINE_SECONDS, EXECUTOR_SECONDS = 0.004, 0.006
"""A step expected to be shorter moves into the event loop, one expected to be longer out of it.
The hand-over to a thread and back takes 0.1 ms, a quarter of a small model's step, and while the
event loop is busy the thread waits for Python's lock besides: 16 sampled rows of 2.4 ms a step made
3,200 tokens a second in a thread and 4,700 in the loop. Sockets wait as long as a step takes."""
YIELD_SECONDS = 0.0005
"""Of a step in the event loop, after which it is yielded to once: a request takes several turns of
the loop to be read and to be answered, and a turn costs 0.01 ms."""
MEDIAN_STEPS = 4
"""Steps after which a median is taken anew: to sort them takes 3 us."""
RECENT_STEPS = 16
"""Steps whose median counts: few enough to follow rows that come and go."""
CHUNK_SHARE = 0.4
"""Seconds of a chunk of prompts over those of a decoding step. Streams wait 1.4 times as long then;
at most twice is wanted for 99 of 100 tokens, and single steps vary. At 0.6 it was 2.0 to 2.5 times
on a busy machine, 1.9 to 2.1 at 0.4, 2.6 to 3.3 with chunks of 256 tokens."""
MIN_CHUNK = 16
"""Prompt tokens that a step reads at least: fewer take as long, by the model's cost for a call."""


class RecentSeconds:
    """Seconds of the latest steps, and their median, which is known anew after some of them."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=RECENT_STEPS)
        self._median: float | None = None
        self._noted = 0

    def note(self, seconds: float) -> None:
        """Record one."""
        self._seconds.append(seconds)
        self._noted += 1
        if self._noted >= MEDIAN_STEPS or len(self._seconds) < RECENT_STEPS:
            self._median = None

    @property
    def median(self) -> float | None:
        """Their median; None where there are none."""
        if self._median is None and self._seconds:
            self._median, self._noted = median(self._seconds), 0
        return self._median


@dataclass
class StepTimes:
    """Seconds of recent steps of one engine.

    Args:
        most_prompt_tokens: budget of a step where nothing is decoded.
    """

    most_prompt_tokens: int
    _decode: RecentSeconds = field(default_factory=RecentSeconds)
    _alone: RecentSeconds = field(default_factory=RecentSeconds)
    """Seconds a prompt token, of chunks read while nothing was decoded."""
    _beside: RecentSeconds = field(default_factory=RecentSeconds)
    """The same, of chunks read beside decoding rows: shorter ones, which cost more a token."""
    _inline: bool = False

    def note_step(
        self, prompt_tokens: int, prompt_seconds: float, decode_seconds: float | None
    ) -> None:
        """Record a step.

        Args:
            prompt_tokens: read in it.
            prompt_seconds: of reading them.
            decode_seconds: of decoding; None where nothing was decoded.
        """
        if decode_seconds is not None:
            self._decode.note(decode_seconds)
        if prompt_tokens:
            cost = prompt_seconds / prompt_tokens
            (self._alone if decode_seconds is None else self._beside).note(cost)

    def prompt_budget(self, *, decoding: bool) -> int:
        """Prompt tokens that the next step may read."""
        if not decoding:
            return self.most_prompt_tokens
        least = min(MIN_CHUNK, self.most_prompt_tokens)
        decode, beside = self._decode.median, self._beside.median
        if decode is None or beside is None:
            return least
        wanted = CHUNK_SHARE * decode / max(beside, 1e-9)
        return int(min(max(wanted, least), self.most_prompt_tokens))

    def runs_inline(self, prompt_tokens: int, *, decoding: bool) -> bool:
        """True if the next step is short enough for the event loop."""
        expected = self._expect(prompt_tokens, decoding)
        limit = EXECUTOR_SECONDS if self._inline else INLINE_SECONDS
        inline = expected is not None and expected < limit
        if not prompt_tokens:  # a chunk now and then does not move the decoding
            self._inline = inline
        return inline

    def turns_to_yield(self, seconds: float) -> int:
        """Turns of the event loop that a step which held it for so long gives up."""
        return 1 + int(min(seconds, EXECUTOR_SECONDS) / YIELD_SECONDS)

    def _expect(self, prompt_tokens: int, decoding: bool) -> float | None:
        """Seconds of a step; None before such a one was measured."""
        seconds = 0.0
        if decoding:
            if (step := self._decode.median) is None:
                return None
            seconds += step
        if prompt_tokens:
            cost = (self._beside if decoding else self._alone).median
            if cost is None:
                return None
            seconds += prompt_tokens * cost
        return seconds
