"""Response format of OpenAI's endpoints: whole, or as the chunks of a stream."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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


CHAT_FORMAT = ResponseFormat(
    prefix="chatcmpl",
    whole="chat.completion",
    chunk="chat.completion.chunk",
    text=lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    delta=lambda piece: {"delta": {} if piece is None else {"content": piece}},
    opens=True,
)
COMPLETION_FORMAT = ResponseFormat(
    prefix="cmpl",
    whole="text_completion",
    chunk="text_completion",
    text=lambda text: {"text": text},
    delta=lambda piece: {"text": piece or ""},
    opens=False,
)


@dataclass(frozen=True)
class ResponseEnvelope:
    """The envelope of one answer: id, time, model, fingerprint."""

    identifier: str
    created: int
    model: str
    fingerprint: str
    format: ResponseFormat

    def whole_answer(self, text: str, finish: str, usage: Usage) -> dict[str, Any]:
        """The answer in one piece.

        Args:
            text: text of the answer.
            finish: reason why it ended: ``stop`` or ``length``.
            usage: tokens read and written.
        """
        choice = _choice(self.format.text(text), finish)
        return {**self._envelope(self.format.whole, [choice]), "usage": usage.counted()}

    def opening_chunk(self) -> dict[str, Any] | None:
        """The first chunk of a stream, if its shape has one."""
        if not self.format.opens:
            return None
        return self._chunk({"delta": {"role": "assistant", "content": ""}}, None)

    def text_chunk(self, text: str) -> dict[str, Any]:
        """A chunk with some text."""
        return self._chunk(self.format.delta(text), None)

    def text_event(self, text: str) -> bytes:
        """The event of ``text_chunk``: all but the text is encoded once a stream."""
        head, tail = self._text_frame
        return head + encode_json(text).encode() + tail

    @cached_property
    def _text_frame(self) -> tuple[bytes, bytes]:
        # Nothing that follows the text holds an empty string of its own.
        head, _, tail = encode_event(self.text_chunk("")).rpartition(b'""')
        return head, tail

    def closing_chunk(self, finish: str) -> dict[str, Any]:
        """The chunk that gives the reason why the text ended."""
        return self._chunk(self.format.delta(None), finish)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """The chunk with the usage, for those who asked."""
        return {**self._envelope(self.format.chunk, []), "usage": usage.counted()}

    def _chunk(self, content: Choice, finish: str | None) -> dict[str, Any]:
        return self._envelope(self.format.chunk, [_choice(content, finish)])

    def _envelope(self, kind: str, choices: list[Choice]) -> dict[str, Any]:
        return {
            "id": self.identifier,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
            "choices": choices,
        }


def _choice(content: Choice, finish: str | None) -> Choice:
    return {"index": 0, **content, "logprobs": None, "finish_reason": finish}
