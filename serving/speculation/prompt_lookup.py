"""Guesses from the text so far: what followed when the same tokens came the last time.

Method: prompt lookup decoding (LLMA, arXiv:2304.04487; Saxena, 2023). It needs no second model, and
an answer that repeats names and phrases of its question comes several tokens a step.
"""

from __future__ import annotations

from collections.abc import Sequence

NGRAM = 3
"""Tokens that have to be the same; of two, twice as many guesses are wrong."""
READ_TOKENS = 4096
"""Latest tokens that are looked through: each takes half a microsecond once."""
_RETRY_STEPS = 64
_WEIGHT = 0.1
"""Of the newest step in the means that are compared."""


class PromptLookup:
    """Index of a text: how each run of ``NGRAM`` tokens went on the last time.

    Args:
        text: tokens of a prompt and its answer so far; the latest ``READ_TOKENS`` count.
    """

    def __init__(self, text: Sequence[int]) -> None:
        self._tokens: list[int] = []
        self._places: dict[tuple[int, ...], int] = {}
        for token in text[-READ_TOKENS:]:
            self.add(token)

    def add(self, token: int) -> None:
        """Append a token."""
        tokens = self._tokens
        if len(tokens) >= NGRAM:
            self._places[tuple(tokens[-NGRAM:])] = len(tokens)
        tokens.append(token)

    def guess(self, most: int) -> list[int]:
        """Up to ``most`` tokens that may come next; none where nothing like it came before."""
        place = self._places.get(tuple(self._tokens[-NGRAM:]))
        return [] if place is None else self._tokens[place : place + most]


class GuessingPace:
    """Comparison of steps with guesses and without, by their seconds a token.

    A wrong guess costs half a step, so guessing goes on only where it is the quicker way, and is
    tried anew now and then: texts change.

    Args:
        allowed: guesses may be made at all.
    """

    def __init__(self, *, allowed: bool = True) -> None:
        self._allowed = allowed
        self._plain: float | None = None
        self._guessed: float | None = None
        self._until_retry = 0

    @property
    def pays(self) -> bool:
        """A step with guesses is worth it."""
        if not self._allowed or self._plain is None:
            return False
        return self._guessed is None or self._guessed <= self._plain or self._until_retry <= 0

    def note_step(self, seconds: float, tokens: int, *, guessed: bool) -> None:
        """Record a step of one row.

        Args:
            seconds: of decoding and drawing.
            tokens: that it drew.
            guessed: it checked guesses.
        """
        cost = seconds / max(1, tokens)
        if guessed:
            retried = self._until_retry <= 0 and self._guessed is not None
            known = None if retried else self._guessed
            self._guessed = cost if known is None else known + _WEIGHT * (cost - known)
            self._until_retry = _RETRY_STEPS
        else:
            known = self._plain
            self._plain = cost if known is None else known + _WEIGHT * (cost - known)
            self._until_retry -= 1
