"""One choice of an answer: its tokens as text, with the log probabilities of what is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from components.core.log import get_logger
from serving.api.error_responses import model_failed_error, queue_full_error, stopping_error
from serving.constrain.tool_call_reader import ToolCallReader
from serving.engine.detokenize import TextStream
from serving.engine.generation import EngineFailed, EngineStopping, Generation
from serving.engine.sampling import TokenLogprobs
from serving.engine.waiting_queue import QueueFull

log = get_logger(__name__)


@dataclass(frozen=True)
class ShownToken:
    """A token of the shown text, with its log probabilities."""

    logprobs: TokenLogprobs
    start: int
    """Characters of the answer before it."""
    end: int
    """Characters of the answer up to and with it, one that it begins among them."""


class AnswerPiece(NamedTuple):
    """Some text that can be shown, and the tokens that end in it."""

    text: str
    tokens: Sequence[ShownToken] = ()


class AnswerChoice:
    """One choice.

    Args:
        index: its place in the answer.
        generation: its tokens, as they come.
        text: turns them into text.
        shows_end: a token of the request's own that ends the answer is part of its text.
    """

    def __init__(
        self, index: int, generation: Generation, text: TextStream, *, shows_end: bool = False
    ) -> None:
        self.index, self.generation, self.text = index, generation, text
        self._shows_end = shows_end
        self._reports = generation.sampler.sampling.logprobs is not None
        self._held: list[ShownToken] = []
        self._seen = 0
        """Tokens that were read."""
        self.ended = False
        """All of the text was read, or the choice was given up."""
        self.calls: ToolCallReader | None = None
        """Reads the calls of tools in the text, where there may be some."""

    @property
    def finish(self) -> str:
        """Reason why the text ended: ``stop``, ``length``, or ``tool_calls``."""
        cut = self.generation.finish_reason == "length"
        if self.calls is not None and self.calls.is_whole and not cut:
            return "tool_calls"
        return "stop" if self.text.stopped else self.generation.finish_reason or "stop"

    @property
    def mean_logprob(self) -> float:
        """Mean log probability of a token; 0 for an answer without one."""
        values = [token.logprob for token in self.generation.logprobs]
        return sum(values) / max(1, len(values))

    async def wait_admitted(self) -> None:
        """Wait until there is a row for the answer.

        Raises:
            ApiError: it was refused while it waited, or the model failed.
        """
        with _as_api_errors():
            await self.generation.wait_admitted()

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        """Have a listener called on the event loop whenever there may be something to read.

        Args:
            listener: raises nothing.
            patience: seconds that a token may wait for the next one; none where its text may end
                the answer, since further ones would be drawn in vain.
        """
        self.generation.listener = listener
        self.generation.patience = 0.0 if self.text.searches else patience

    def read_pieces(self) -> list[AnswerPiece]:
        """Text that can be shown, a piece for each new token that brings some.

        The engine's row is free once the text has ended.

        Raises:
            ApiError: the model failed, or the answer was refused while it waited.
        """
        generation, text = self.generation, self.text
        pieces: list[AnswerPiece] = []
        if self.ended:
            return pieces
        if generation.failure is not None:
            self.close()
            with _as_api_errors():
                raise generation.failure
        tokens, seen = generation.tokens, self._seen
        while seen < len(tokens) and not text.stopped:
            self._add_piece(pieces, self._push(tokens[seen], seen))
            seen += 1
        self._seen = seen
        if text.stopped or generation.finished:
            self.close()
            self._check_constraint()
            self._add_piece(pieces, self._push_end() + text.finish())
        return pieces

    def _add_piece(self, pieces: list[AnswerPiece], shown: str) -> None:
        released = self._release_tokens() if self._reports else ()
        if shown or released:
            pieces.append(AnswerPiece(shown, released))

    def close(self) -> None:
        """Read no more; frees the engine's row."""
        self.ended, self.generation.listener = True, None
        self.generation.cancel()

    def _check_constraint(self) -> None:
        """An answer that ran into a bound of its grammar is not shown as a whole one."""
        constraint = self.generation.options.constraint
        if constraint is not None and constraint.failure:
            log.error(f"a constrained answer failed: {constraint.failure}")
            raise model_failed_error()

    def _push(self, token: int, place: int) -> str:
        if not self._reports:
            return self.text.push(token)
        start = self.text.decoded
        shown = self.text.push(token)
        logprobs = self.generation.logprobs[place]
        end = self.text.decoded + self.text.mid_character
        self._held.append(ShownToken(logprobs, start, end))
        return shown

    def _push_end(self) -> str:
        """Text of the token that ended the answer, where the request wants to see it."""
        end = self.generation.end_token
        if not self._shows_end or end is None or end not in self.generation.options.stop_tokens:
            return ""
        return self.text.push(end)

    def _release_tokens(self) -> list[ShownToken]:
        """Tokens that are shown by now; those behind a stop string never are."""
        shown = self.text.shown
        if self.text.stopped:
            released = [token for token in self._held if token.start < shown]
        elif self.ended:
            released = self._held
        else:
            released = [token for token in self._held if token.end <= shown]
        self._held = self._held[len(released) :]
        return released


@contextmanager
def _as_api_errors() -> Iterator[None]:
    try:
        yield
    except QueueFull:
        raise queue_full_error() from None
    except EngineFailed:
        raise model_failed_error() from None
    except EngineStopping:
        raise stopping_error() from None
