"""Answer of all choices, whole or as the events of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any

from serving.api.answers.answer_choice import (
    AnswerChoice,
    AnswerPiece,
    ShownToken,
    merge_pieces,
    read_whole,
)
from serving.api.answers.logprob_format import TokenTexts
from serving.api.error_responses import model_failed_error, queue_full_error
from serving.api.request_schema import CompletionRequest, GenerationRequest, Usage
from serving.api.response_format import DONE, Choice, ResponseEnvelope, encode_event
from serving.constrain.tool_call_reader import describe_call_piece
from serving.engine.generation import EngineFailed
from serving.engine.waiting_queue import QueueFull


class AnswerWriter:
    """Writes one answer.

    Args:
        envelope: of the answer.
        request: what was asked.
        choices: all that are generated, those of one prompt side by side.
        texts: of single tokens.
    """

    def __init__(
        self,
        envelope: ResponseEnvelope,
        request: GenerationRequest,
        choices: Sequence[AnswerChoice],
        texts: TokenTexts,
    ) -> None:
        self.envelope, self.request = envelope, request
        self.choices, self.texts = choices, texts

    async def wait_admitted(self) -> None:
        """Wait until the first choice has a row.

        Raises:
            ApiError: it was refused while it waited, or the model failed.
        """
        try:
            await self.choices[0].generation.wait_admitted()
        except QueueFull:
            self.cancel()
            raise queue_full_error() from None
        except EngineFailed:
            self.cancel()
            raise model_failed_error() from None

    async def collect(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            ApiError: the model failed, or a choice was refused while it waited.
        """
        try:
            if len(self.choices) == 1:  # in the request's own task: another costs a switch a token
                read = [await read_whole(self.choices[0])]
            else:
                read = await asyncio.gather(*map(read_whole, self.choices))
        except QueueFull:
            raise queue_full_error() from None
        except EngineFailed:
            raise model_failed_error() from None
        finally:
            self.cancel()
        ranked = self._select_best(list(zip(self.choices, read, strict=True)))
        choices = [
            self._write_choice(index, choice, piece) for index, (choice, piece) in enumerate(ranked)
        ]
        return self.envelope.whole_answer(choices, self._count_usage())

    async def stream_events(self) -> AsyncGenerator[bytes, None]:
        """The events of a stream, ``[DONE]`` last."""
        envelope = self.envelope
        try:
            for choice in self.choices:
                if opening := envelope.opening_chunk(choice.index):
                    yield encode_event(opening)
                if echo := self._echo(choice):
                    yield envelope.text_event(echo, choice.index)
            last = b""
            async with aclosing(merge_pieces(self.choices)) as events:
                async for choice, piece in events:
                    if last:
                        yield last
                        last = b""
                    if choice.calls is not None:
                        text = "" if piece is None else piece.text
                        for event in self._write_calls(choice, text, final=piece is None):
                            yield event
                        if piece is not None and not piece.tokens:
                            continue
                    if piece is None:
                        # Sent with what follows it: the end of a stream is one write.
                        last = encode_event(envelope.closing_chunk(choice.finish, choice.index))
                    else:
                        yield self._write_piece(choice, piece)
            if self.request.wants_usage:
                last += encode_event(envelope.usage_chunk(self._count_usage()))
            yield last + DONE
        except QueueFull:
            yield encode_event(queue_full_error().body)
        except EngineFailed:
            yield encode_event(model_failed_error().body)
        finally:
            self.cancel()

    def _write_piece(self, choice: AnswerChoice, piece: AnswerPiece) -> bytes:
        logprobs = self._describe_logprobs(piece.tokens)
        text = piece.text if choice.calls is None else ""  # written already, as what it says
        if logprobs is None:
            return self.envelope.text_event(text, choice.index)
        return encode_event(self.envelope.text_chunk(text, choice.index, logprobs))

    def _write_calls(self, choice: AnswerChoice, text: str, *, final: bool) -> list[bytes]:
        """Events of what is said and called in some text of a choice."""
        assert choice.calls is not None
        said, pieces = choice.calls.push(text, final=final)
        events = [self.envelope.text_event(said, choice.index)] if said else []
        deltas = map(describe_call_piece, pieces)
        return events + [
            encode_event(self.envelope.calls_chunk([delta], choice.index)) for delta in deltas
        ]

    def cancel(self) -> None:
        """Give all choices up, as when nobody listens any more."""
        for choice in self.choices:
            choice.generation.cancel()

    def _select_best(
        self, read: list[tuple[AnswerChoice, AnswerPiece]]
    ) -> list[tuple[AnswerChoice, AnswerPiece]]:
        """Of each prompt's choices those that are answered, the likeliest first."""
        drawn, shown = self.request.drawn_choices, self.request.shown_choices
        if drawn == shown:
            return read
        best: list[tuple[AnswerChoice, AnswerPiece]] = []
        for first in range(0, len(read), drawn):
            group = read[first : first + drawn]
            best += sorted(group, key=lambda pair: -pair[0].mean_logprob)[:shown]
        return best

    def _write_choice(self, index: int, choice: AnswerChoice, piece: AnswerPiece) -> Choice:
        text = self._echo(choice) + piece.text
        logprobs = self._describe_logprobs(piece.tokens)
        if choice.calls is None:
            return self.envelope.whole_choice(text, choice.finish, index, logprobs)
        said, _ = choice.calls.push(text, final=True)
        written = self.envelope.whole_choice(said, choice.finish, index, logprobs)
        if choice.calls.calls:
            calls = [call.described() for call in choice.calls.calls]
            written["message"] |= {"content": said or None, "tool_calls": calls}
        return written

    def _describe_logprobs(self, tokens: Sequence[ShownToken]) -> dict[str, Any] | None:
        if self.request.reported_logprobs is None:
            return None
        return self.envelope.format.logprobs(tokens, self.texts)

    def _echo(self, choice: AnswerChoice) -> str:
        """Text of the choice's prompt, where the answer shall begin with it."""
        request = self.request
        if not isinstance(request, CompletionRequest) or not request.echo:
            return ""
        prompt = request.prompt[choice.index // request.drawn_choices]
        return prompt if isinstance(prompt, str) else self.texts.decode(prompt)

    def _count_usage(self) -> Usage:
        """Tokens of each prompt, counted once, and of all that was generated."""
        generations = [choice.generation for choice in self.choices]
        prompts = generations[:: self.request.drawn_choices]
        return Usage(
            prompt_tokens=sum(len(generation.prompt) for generation in prompts),
            completion_tokens=sum(len(generation.tokens) for generation in generations),
            cached_tokens=sum(generation.cached_prompt_tokens for generation in prompts),
        )
