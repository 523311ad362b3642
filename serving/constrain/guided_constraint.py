"""Constraint of one answer by a compiled grammar, led to its end before its tokens run out.

Behind every token a path is known that makes the answer whole: the known one where it still holds
(inside a text it nearly always does), else one found by a walk. A drawn token behind which no path
fits into the tokens that remain is given up for the next token of the known path, so the answer is
whole at its last token at the latest, whatever the model draws.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import numpy as np
from llguidance import LLMatcher
from numpy.typing import NDArray

from serving.constrain.closing_path import ClosingPathFinder
from serving.constrain.guidance_vocabulary import GuidanceVocabulary

LONGEST_PATH = 4096
"""Most tokens of a closing path; a walk of so many takes some 20 ms."""
_SHORTEST_WALK = 128
"""Walks are given up at so many tokens and four times the shortest answer's: a token behind which
closing takes longer is not worth it."""
WALK_SECONDS = 2.0
"""Processor time of all walks of one answer, some 100 µs each; a grammar may make them slower."""
_LONG_NUMBER = re.compile(rb"(?:\.[0-9]{15}|[0-9]{19}|[0-9][eE][+-]?[0-9]{2})\Z")
"""A number that need not go on: 15 decimals are all that a double tells apart, 19 digits are those
of 64 bits, and an exponent of three digits is infinite in most readers."""
_TAIL_BYTES = 20


class GuidedConstraint:
    """State of one constrained answer.

    Args:
        vocabulary: the model's.
        finder: of closing paths.
        matcher: the compiled grammar at its start; it becomes this answer's.
        path: tokens that make the shortest known answer.
        on_failure: is told of a bound that the answer ran into.
        bounds_numbers: the answer is JSON, whose numbers do not grow for ever.
        is_text: text fits as well, so an answer that its limit cuts is none that came to its end.
    """

    def __init__(
        self,
        vocabulary: GuidanceVocabulary,
        finder: ClosingPathFinder,
        matcher: LLMatcher,
        path: list[int],
        on_failure: Callable[[str], None],
        *,
        bounds_numbers: bool,
        is_text: bool = False,
    ) -> None:
        self._vocabulary, self._finder, self._matcher = vocabulary, finder, matcher
        self._path, self._on_failure = path, on_failure
        self._longest_walk = _SHORTEST_WALK + 4 * len(path)
        self._bounds_numbers, self._is_text = bounds_numbers, is_text
        self._letter = vocabulary.single_bytes.get(ord("z"))
        self._remaining = LONGEST_PATH
        self._settled: int | None = None
        self._tail = b""
        self._walked_seconds = 0.0
        self._ended = False
        self.failure = ""
        """Bound of the grammar that the answer ran into; it is not whole then."""

    @property
    def ended(self) -> bool:
        """Nothing may follow."""
        if self._ended or self._matcher.is_stopped():
            return True
        return not self._is_text and self._remaining <= 0 and self._matcher.is_accepting()

    def allowed_tokens(self, remaining: int) -> NDArray[np.bool_]:
        """Tokens that may come next [v]; that of the known path alone where no other fits.

        Args:
            remaining: tokens that may still be drawn, this one included.
        """
        self._remaining = remaining
        if self._matcher.is_error():
            self._fail()
        if self._ended:
            return self._only(self._vocabulary.ends[0])
        if len(self._path) >= remaining or (self._bounds_numbers and self._number_is_long()):
            return self._only(self._next_known())
        allowed = self._vocabulary.allowed_tokens(self._matcher)
        if not allowed.any():
            self._fail()
            return self._only(self._vocabulary.ends[0])
        return allowed

    def settle_token(self, token: int) -> int:
        """The token to take in place of a drawn one: itself where the answer can still be closed.

        Goes on behind the token; ``accept_token`` is told of it later.
        """
        if self._ended or (self._is_end(token) and self._may_end()):
            self._ended = True
            settled = token if self._is_end(token) else self._vocabulary.ends[0]
        elif not self._is_end(token) and self._take(token):
            settled = token
        else:
            settled = self._next_known()
            if self._is_end(settled):
                self._ended = True
            elif self._matcher.try_consume_tokens([settled]) == 1:
                self._path = self._path[1:]
            else:
                self._fail()
        self._remaining -= 1
        self._tail = (self._tail + self._vocabulary.table[settled])[-_TAIL_BYTES:]
        self._settled = settled
        return settled

    def accept_token(self, token: int) -> None:
        """Go on behind a token that was drawn."""
        if self._settled != token:
            self.settle_token(token)
        self._settled = None

    def _take(self, token: int) -> bool:
        """Go on behind a token and know a path from there; False, and unmoved, where none fits."""
        matcher, known = self._matcher, self._path
        if matcher.try_consume_tokens([token]) != 1:
            return False
        if matcher.is_accepting():
            self._path = []
            return True
        if known and token == known[0]:
            self._path = known[1:]
            return True
        room = min(self._remaining - 1, LONGEST_PATH)
        if len(known) <= room and self._closes(known):
            return True
        if self._walked_seconds > WALK_SECONDS:
            self._fail(f"closing it takes more than {WALK_SECONDS} s")
            return True
        began = time.thread_time()
        path = self._finder.find_path(matcher, min(room, self._longest_walk))
        self._walked_seconds += time.thread_time() - began
        if path is None:
            matcher.rollback(1)
            return False
        self._path = path
        return True

    def _closes(self, path: list[int]) -> bool:
        """The path still makes the answer whole."""
        # The end token behind it tells a whole answer from one that could go on alone.
        whole = [*path, self._vocabulary.ends[0]]
        return self._matcher.validate_tokens(whole) == len(whole)

    def _next_known(self) -> int:
        return self._path[0] if self._path else self._vocabulary.ends[0]

    def _only(self, token: int) -> NDArray[np.bool_]:
        allowed = np.zeros(self._vocabulary.size, dtype=np.bool_)
        allowed[token] = True
        return allowed

    def _may_end(self) -> bool:
        return not self._path or self._matcher.is_accepting()

    def _is_end(self, token: int) -> bool:
        return token in self._vocabulary.ends

    def _number_is_long(self) -> bool:
        """The answer ends with a long number, outside of a text (where a letter might follow)."""
        if not _LONG_NUMBER.search(self._tail):
            return False
        return self._letter is None or self._matcher.validate_tokens([self._letter]) == 0

    def _fail(self, reason: str = "the grammar leaves no way on") -> None:
        self.failure = self._matcher.get_error() or reason
        self._on_failure(self.failure)
        self._ended = True
