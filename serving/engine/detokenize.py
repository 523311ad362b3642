"""Incremental detokenizer: never half a character, never half a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextStream:
    """The text of one answer. ``push`` and ``finish`` return what can be shown now.

    What might still become a character or a stop string is held back, so the pieces put together
    are the same text, however they are cut.
    """

    def __init__(self, table: Sequence[bytes], stops: Sequence[str] = ()) -> None:
        self._table, self._stops = table, [stop for stop in stops if stop]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pending = ""
        self.stopped = False
        """A stop string was reached; what follows is not part of the answer."""

    def push(self, token: int) -> str:
        """One more token."""
        return self._release(self._decoder.decode(self._table[token]), final=False)

    def finish(self) -> str:
        """No more tokens."""
        return self._release(self._decoder.decode(b"", final=True), final=True)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        self._pending += text
        positions = [at for at in (self._pending.find(stop) for stop in self._stops) if at >= 0]
        if positions:
            self.stopped = True
            shown, self._pending = self._pending[: min(positions)], ""
            return shown
        held_back = 0 if final else self._possible_start()
        cut = len(self._pending) - held_back
        shown, self._pending = self._pending[:cut], self._pending[cut:]
        return shown

    def _possible_start(self) -> int:
        """Number of characters at the end that could begin a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for length in range(min(longest, len(self._pending)), 0, -1):
            if any(stop.startswith(self._pending[-length:]) for stop in self._stops):
                return length
        return 0
