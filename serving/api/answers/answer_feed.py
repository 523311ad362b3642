"""News of an answer, written where it is drawn: in the engine's own turn of the event loop.

To wake a task for every token costs more than to write the token: a future, a turn of the loop and
all coroutines between the server and the writer, cold each time, since the model went through the
caches meanwhile. So the engine's step calls the feed, which reads what is new and writes it to the
connection at once. The task is woken where the connection does not take more, and for the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from serving.api.answers.answer_choice import AnswerChoice, AnswerPiece

STREAM_PATIENCE = 0.0015
"""Of a stream. Where a step takes less than half of it, a small model's, two or three tokens are
sent together: to send one takes 45 us where a client sleeps, a tenth of such a step."""
WHOLE_PATIENCE = 0.02
"""Of an answer sent as a whole: its text is made meanwhile, and not all at its end."""
WriteThrough = Callable[[bytes], bool]
"""Writes a piece of a response's body at once; False where it has to wait or cannot be written."""


class EventSource(Protocol):
    """The events of one answer."""

    ended: bool
    """All events were read."""

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        """Have a listener called on the event loop whenever there may be events.

        Args:
            listener: in place of the one before; None for nobody. It raises nothing.
            patience: seconds that a token may wait for the next one.
        """
        ...

    def read_events(self) -> bytes:
        """Whole events of all that is new; may be empty."""
        ...

    def cancel(self) -> None:
        """Give the answer up: it ends at the engine's next step."""
        ...


class EventFeed:
    """Reader of one source.

    Args:
        source: the answer.
        write: takes events past the reader while it waits; none where all are read.
        patience: seconds that a token may wait for the next one.
    """

    def __init__(
        self,
        source: EventSource,
        write: WriteThrough | None = None,
        patience: float = STREAM_PATIENCE,
    ) -> None:
        self._source, self._write = source, write
        self._unsent = b""
        self._waiting: asyncio.Future[None] | None = None
        source.listen(self._take_news, patience)

    async def read(self) -> bytes:
        """The next events that were not written through; with the last ones the source has ended.

        Raises:
            ApiError: of the source, where it writes none as an event.
        """
        source = self._source
        while True:
            events = self._unsent + source.read_events()
            self._unsent = b""
            if events or source.ended:
                return events
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None

    def close(self) -> None:
        """Read no more, and give up what is still answered."""
        self._source.listen(None, 0.0)
        self._source.cancel()

    def _take_news(self) -> None:
        waiting = self._waiting
        if waiting is None or waiting.done():
            return  # the reader is at work, and looks for more by itself
        try:
            events = self._source.read_events()
            goes_on = not self._source.ended
            if goes_on and (not events or (self._write is not None and self._write(events))):
                return
            self._unsent = events
        except Exception as error:  # the reader raises it: the engine's step goes on
            waiting.set_exception(error)
        else:
            waiting.set_result(None)


class WholeChoices:
    """Source without events: keeps the pieces of some choices until all have ended.

    Args:
        choices: of one answer.
    """

    def __init__(self, choices: Sequence[AnswerChoice]) -> None:
        self.ended = False
        self._choices = choices
        self._pieces: list[list[AnswerPiece]] = [[] for _ in choices]

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        """Have a listener called whenever there may be news of a choice."""
        for choice in self._choices:
            choice.listen(listener, patience)

    def read_events(self) -> bytes:
        """Read all choices on; there are no events.

        Raises:
            ApiError: the model failed, or a choice was refused while it waited.
        """
        for choice, pieces in zip(self._choices, self._pieces, strict=True):
            pieces += choice.read_pieces()
        self.ended = all(choice.ended for choice in self._choices)
        return b""

    def cancel(self) -> None:
        """Give all choices up."""
        for choice in self._choices:
            choice.generation.cancel()

    def join_pieces(self) -> list[AnswerPiece]:
        """The text of each choice, with its tokens."""
        return [
            AnswerPiece(
                "".join(piece.text for piece in pieces),
                [token for piece in pieces for token in piece.tokens],
            )
            for pieces in self._pieces
        ]


async def read_whole(choices: Sequence[AnswerChoice]) -> list[AnswerPiece]:
    """The whole text of each choice, with its tokens.

    Raises:
        ApiError: the model failed, or a choice was refused while it waited.
    """
    whole = WholeChoices(choices)
    feed = EventFeed(whole, patience=WHOLE_PATIENCE)
    try:
        await feed.read()
    finally:
        feed.close()
    return whole.join_pieces()
