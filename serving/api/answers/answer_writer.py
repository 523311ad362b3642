"""Answer of all choices, whole or as the events of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from serving.api.answers.answer_choice import AnswerChoice, AnswerPiece, ShownToken
from serving.api.answers.answer_feed import read_whole
from serving.api.answers.logprob_format import TokenTexts
from serving.api.error_responses import ApiError
from serving.api.request_schema import CompletionRequest, GenerationRequest, Usage
from serving.api.response_format import DONE, Choice, ResponseEnvelope, encode_event
from serving.constrain.tool_call_reader import describe_call_piece


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
        self.ended = False
        """All events were read."""
        self._opened = False

    async def wait_admitted(self) -> None:
        """Wait until the first choice has a row; all are given up if it is refused.

        Raises:
            ApiError: it waited too long, or was refused for the sake of others; the model failed.
        """
        try:
            await self.choices[0].wait_admitted()
        except ApiError:
            self.cancel()
            raise

    async def collect(self) -> dict[str, Any]:
        """The whole answer.

        Raises:
            ApiError: the model failed, or a choice was refused while it waited.
        """
        read = await read_whole(self.choices)
        ranked = self._select_best(list(zip(self.choices, read, strict=True)))
        choices = [
            self._write_choice(index, choice, piece) for index, (choice, piece) in enumerate(ranked)
        ]
        return self.envelope.whole_answer(choices, self._count_usage())

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        """Have a listener called whenever there may be events, as ``EventSource`` has it."""
        for choice in self.choices:
            choice.listen(listener, patience)

    def read_events(self) -> bytes:
        """Events of all that is new, those of one moment together; ``[DONE]`` last."""
        if self.ended:
            return b""
        events: list[bytes] = []
        if not self._opened:
            self._opened = True
            events += self._open_choices()
        self.ended = True
        try:
            for choice in self.choices:
                if not choice.ended:
                    self._read_choice(choice, events)
                    self.ended &= choice.ended
        except ApiError as error:
            events.append(encode_event(error.body))
            for choice in self.choices:
                choice.close()
            self.ended = True
        else:
            if self.ended:
                if self.request.wants_usage:
                    events.append(encode_event(self.envelope.usage_chunk(self._count_usage())))
                events.append(DONE)
        return b"".join(events)

    def _open_choices(self) -> list[bytes]:
        """Events that come before any token."""
        events: list[bytes] = []
        for choice in self.choices:
            if opening := self.envelope.opening_chunk(choice.index):
                events.append(encode_event(opening))
            if echo := self._echo(choice):
                events.append(self.envelope.text_event(echo, choice.index))
        return events

    def _read_choice(self, choice: AnswerChoice, events: list[bytes]) -> None:
        """Append the events of what is new of a choice.

        Args:
            choice: one that has not ended.
            events: of this moment.

        Raises:
            ApiError: the model failed, or the choice was refused while it waited.
        """
        for piece in choice.read_pieces():
            if choice.calls is not None:
                events += self._write_calls(choice, piece.text, final=False)
            if choice.calls is None or piece.tokens:
                events.append(self._write_piece(choice, piece))
        if choice.ended:
            if choice.calls is not None:
                events += self._write_calls(choice, "", final=True)
            events.append(encode_event(self.envelope.closing_chunk(choice.finish, choice.index)))

    def _write_piece(self, choice: AnswerChoice, piece: AnswerPiece) -> bytes:
        text = piece.text if choice.calls is None else ""  # written already, as what it says
        if self.request.reported_logprobs is None:
            return self.envelope.text_event(text, choice.index)
        logprobs = self._describe_logprobs(piece.tokens)
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
