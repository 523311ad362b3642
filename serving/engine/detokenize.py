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
    """

    def __init__(
        self,
        table: Sequence[bytes],
        stops: Sequence[str] = (),
        *,
        shows_stop: bool = False,
        min_tokens: int = 0,
    ) -> None:
        self._table, self._stops = table, [stop for stop in stops if stop]
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
        first = self._first_stop()
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

    def _possible_start(self) -> int:
        """Number of characters at the end that could begin a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._pending)), 0, -1):
            if any(stop.startswith(self._pending[-length:]) for stop in self._stops):
                return length
        return 0
