"""Response format of OpenAI's endpoints: whole, or as the chunks of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from serving.api.answers.answer_choice import ShownToken
from serving.api.answers.logprob_format import (
    TokenTexts,
    describe_chat_logprobs,
    describe_completion_logprobs,
)
from serving.api.request_schema import Usage

Choice = dict[str, Any]
encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""JSON as the endpoint streams it; one encoder, since ``json.dumps`` makes one a call."""
DONE = b"data: [DONE]\n\n"
"""Last event of a stream."""


def encode_event(payload: dict[str, Any]) -> bytes:
    """A server-sent event."""
    return f"data: {encode_json(payload)}\n\n".encode()


@dataclass(frozen=True)
class ResponseFormat:
    """Differences between chat and plain completions."""

    prefix: str
    whole: str
    """``object`` of a whole answer."""
    chunk: str
    """``object`` of a stream's chunks."""
    text: Callable[[str], Choice]
    """The part of a whole answer's choice that holds the text."""
    delta: Callable[[str | None], Choice]
    """The part of a chunk's choice that holds a piece; None in the closing chunk."""
    opens: bool
    """The stream begins with a chunk that names the role."""
    logprobs: Callable[[Sequence[ShownToken], TokenTexts], Choice]
    """The log probabilities of a choice."""


CHAT_FORMAT = ResponseFormat(
    prefix="chatcmpl",
    whole="chat.completion",
    chunk="chat.completion.chunk",
    text=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    delta=lambda piece: {"delta": {} if piece is None else {"content": piece}},
    opens=True,
    logprobs=describe_chat_logprobs,
)
COMPLETION_FORMAT = ResponseFormat(
    prefix="cmpl",
    whole="text_completion",
    chunk="text_completion",
    text=lambda text: {"text": text},
    delta=lambda piece: {"text": piece or ""},
    opens=False,
    logprobs=describe_completion_logprobs,
)


@dataclass(frozen=True)
class ResponseEnvelope:
    """The envelope of one answer: id, time, model, fingerprint."""

    identifier: str
    created: int
    model: str
    fingerprint: str
    format: ResponseFormat

    def whole_choice(
        self, text: str, finish: str, index: int = 0, logprobs: Choice | None = None
    ) -> Choice:
        """A choice of an answer in one piece.

        Args:
            text: text of the choice.
            finish: reason why it ended: ``stop`` or ``length``.
            index: its place among the choices.
            logprobs: log probabilities of its tokens, where they were asked for.
        """
        return _choice(self.format.text(text), finish, index, logprobs)

    def whole_answer(self, choices: list[Choice], usage: Usage) -> dict[str, Any]:
        """The answer in one piece.

        Args:
            choices: as ``whole_choice`` makes them.
            usage: tokens read and written.
        """
        return {**self._envelope(self.format.whole, choices), "usage": usage.counted()}

    def opening_chunk(self, index: int = 0) -> dict[str, Any] | None:
        """The first chunk of a stream's choice, if its shape has one."""
        if not self.format.opens:
            return None
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None, index, None)

    def text_chunk(
        self, text: str, index: int = 0, logprobs: Choice | None = None
    ) -> dict[str, Any]:
        """A chunk with some text.

        Args:
            text: the text.
            index: place of its choice.
            logprobs: log probabilities of its tokens, where they were asked for.
        """
        return self._chunk(self.format.delta(text), None, index, logprobs)

    def text_event(self, text: str, index: int = 0) -> bytes:
        """The event of ``text_chunk``: all but the text is encoded once a choice."""
        frame = self._text_frames.get(index)
        if frame is None:
            # Nothing that follows the text holds an empty string of its own.
            head, _, tail = encode_event(self.text_chunk("", index)).rpartition(b'""')
            self._text_frames[index] = frame = (head, tail)
        head, tail = frame
        return head + encode_json(text).encode() + tail

    @cached_property
    def _text_frames(self) -> dict[int, tuple[bytes, bytes]]:
        return {}

    def calls_chunk(self, calls: list[Choice], index: int = 0) -> dict[str, Any]:
        """A chunk with pieces of calls of tools."""
        return self._chunk({"delta": {"tool_calls": calls}}, None, index, None)

    def closing_chunk(self, finish: str, index: int = 0) -> dict[str, Any]:
        """The chunk that gives the reason why a choice's text ended."""
        return self._chunk(self.format.delta(None), finish, index, None)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk with the usage, for those who asked."""
        return {**self._envelope(self.format.chunk, []), "usage": usage.counted()}

    def _chunk(
        self, content: Choice, finish: str | None, index: int, logprobs: Choice | None
    ) -> dict[str, Any]:
        return self._envelope(self.format.chunk, [_choice(content, finish, index, logprobs)])

    def _envelope(self, kind: str, choices: list[Choice]) -> dict[str, Any]:
        return {
            "id": self.identifier,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


def _choice(content: Choice, finish: str | None, index: int, logprobs: Choice | None) -> Choice:
    return {"index": index, **content, "logprobs": logprobs, "finish_reason": finish}
