"""Incremental detokenizer: never half a character, never half a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer. ``push`` and ``finish`` return what can be shown now.

    What might still become a character or a stop string is held back, so the pieces put together
    are the same text, however they are cut.

    Args:
        table: the bytes of each token.
        stops: strings that end the answer.
        shows_stop: the answer ends with the stop string, not before it.
        min_tokens: tokens whose text is not searched for stop strings.
        unsearched_from: text from which on, itself among it, nothing is searched for them; the
            empty one stands before all text, None nowhere.
    """

    def __init__(
        self,
        table: Sequence[bytes],
        stops: Sequence[str] = (),
        *,
        shows_stop: bool = False,
        min_tokens: int = 0,
        unsearched_from: str | None = None,
    ) -> None:
        self._table = table
        self._stops = [stop for stop in stops if stop and unsearched_from != ""]
        self._opening = unsearched_from or ""
        self._shows_stop, self._unsearched = shows_stop, min_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self.stopped = False
        """A stop string was reached; what follows is not part of the answer."""
        self.decoded = 0
        """Characters that the tokens have come to."""
        self.shown = 0
        """Characters that were returned."""

    @property
    def searches(self) -> bool:
        """A token may turn out to be the last one, by its text."""
        return bool(self._stops)

    @property
    def mid_character(self) -> bool:
        """The last token left a character half written."""
        return bool(self._decoder.getstate()[0])

    def push(self, token: int) -> str:
        """One more token."""
        text = self._decoder.decode(self._table[token])
        if self._unsearched > 0:
            self._unsearched -= 1
            self.decoded += len(text)
            return self._show(text)
        return self._release(text, final=False)

    def finish(self) -> str:
        """No more tokens."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self.decoded += len(text)
        self._pending += text
        if not self._stops:
            shown, self._pending = self._pending, ""
            return self._show(shown)
        first, opening = self._first_stop(), self._find_opening(final=final)
        if opening is not None and (first is None or opening[0] <= first[0]):
            start, is_whole = opening
            if is_whole:
                self._stops, start = [], len(self._pending)
            elif first is None:
                start -= self._possible_start(start)
            shown, self._pending = self._pending[:start], self._pending[start:]
            return self._show(shown)
        if first is not None:
            self.stopped = True
            start, stop = first
            shown = self._pending[: start + len(stop) if self._shows_stop else start]
            self._pending = ""
            return self._show(shown)
        held_back = 0 if final else self._possible_start()
        cut = len(self._pending) - held_back
        shown, self._pending = self._pending[:cut], self._pending[cut:]
        return self._show(shown)

    def _show(self, text: str) -> str:
        self.shown += len(text)
        return text

    def _first_stop(self) -> tuple[int, str] | None:
        """(place, stop string) of the first one in the text; the shortest of several there."""
        places = [(self._pending.find(stop), stop) for stop in self._stops]
        reached = [(at, len(stop), stop) for at, stop in places if at >= 0]
        if not reached:
            return None
        at, _, stop = min(reached)
        return at, stop

    def _find_opening(self, *, final: bool) -> tuple[int, bool] | None:
        """(place, whole) of the text behind which nothing is searched, or of what may begin it."""
        if not self._opening:
            return None
        place = self._pending.find(self._opening)
        if place >= 0:
            return place, True
        length = 0 if final else _longest_start(self._pending, [self._opening])
        return (len(self._pending) - length, False) if length else None

    def _possible_start(self, end: int | None = None) -> int:
        """Number of characters before an end that could begin a stop string."""
        return _longest_start(self._pending[:end], self._stops)


def _longest_start(text: str, candidates: Sequence[str]) -> int:
    """Number of characters at a text's end that begin one of the candidates, none of them whole."""
    longest = max(map(len, candidates), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(candidate.startswith(text[-length:]) for candidate in candidates):
            return length
    return 0
