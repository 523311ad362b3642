"""Answer of OpenAI's responses interface, whole or as its named events."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from serving.api.answers.answer_choice import AnswerChoice
from serving.api.answers.answer_feed import WHOLE_PATIENCE, EventFeed
from serving.api.error_responses import ApiError
from serving.api.request_schema import ChatRequest
from serving.api.response_format import encode_json
from serving.api.responses.responses_request import ResponsesRequest
from serving.constrain.tool_call_reader import CallPiece, ToolCall

Item = dict[str, Any]


class ResponsesWriter:
    """Writes one response.

    Args:
        request: asked.
        chat: the chat request that asks the same.
        choice: the answer.
        model: its model's name.
    """

    def __init__(
        self, request: ResponsesRequest, chat: ChatRequest, choice: AnswerChoice, model: str
    ) -> None:
        self._request, self._chat, self._choice, self._model = request, chat, choice, model
        self._identifier = f"resp_{uuid.uuid4().hex}"
        self._message_id = f"msg_{uuid.uuid4().hex}"
        self._created, self._number, self._said = int(time.time()), 0, ""
        self._begun = self._opened = False
        self.ended = False
        """All events were read."""
        self._failure: ApiError | None = None

    def cancel(self) -> None:
        """Give the answer up, as when nobody listens any more."""
        self._choice.generation.cancel()

    async def collect(self) -> Item:
        """The whole response.

        Raises:
            ApiError: the model failed, or it was refused while it waited.
        """
        # Events are made for what they note.
        feed = EventFeed(self, lambda _: True, WHOLE_PATIENCE)
        try:
            while not self.ended:
                await feed.read()
        finally:
            feed.close()
        if self._failure is not None:
            raise self._failure
        return self._describe(self._status, self._list_items())

    def listen(self, listener: Callable[[], None] | None, patience: float) -> None:
        """Have a listener called whenever there may be events, as ``EventSource`` has it."""
        self._choice.listen(listener, patience)

    def read_events(self) -> bytes:
        """Events of all that is new, ``response.completed`` or its like last."""
        if self.ended:
            return b""
        events: list[bytes] = []
        if not self._begun:
            self._begun = True
            events.append(
                self._event("response.created", response=self._describe("in_progress", []))
            )
        try:
            for piece in self._choice.read_pieces():
                events += self._write_piece(piece.text, final=False)
            self.ended = self._choice.ended
            if self.ended:
                events += self._write_piece("", final=True)
                events += self._close_items()
                status = self._status
                response = self._describe(status, self._list_items())
                events.append(self._event(f"response.{status}", response=response))
        except ApiError as failure:
            self.ended, self._failure = True, failure
            error = {key: failure.body["error"][key] for key in ("code", "message", "param")}
            events.append(self._event("error", **error))
        return b"".join(events)

    def _write_piece(self, text: str, *, final: bool) -> list[bytes]:
        """Events of what is said, then of what is called, in a piece of the answer."""
        calls = self._choice.calls
        if calls is None:
            return self._say(text)
        spoken, pieces = calls.push(text, final=final)
        return self._say(spoken) + [self._call(piece) for piece in pieces]

    def _call(self, piece: CallPiece) -> bytes:
        """The event of a call's beginning, or of more of its arguments."""
        index = piece.index + (1 if self._opened else 0)  # behind the message, if there is one
        if piece.arguments is None:
            item = {**self._describe_call(piece.call), "arguments": "", "status": "in_progress"}
            return self._event("response.output_item.added", output_index=index, item=item)
        place = self._place(_call_item_id(piece.call), index)
        name = "response.function_call_arguments.delta"
        return self._event(name, **place, delta=piece.arguments)

    @property
    def _status(self) -> str:
        return "incomplete" if self._choice.finish == "length" else "completed"

    def _say(self, text: str) -> list[bytes]:
        """Events of a piece of text; the message's beginning before the first one."""
        if not text:
            return []
        events = [] if self._opened else self._open_message()
        self._said += text
        place = self._place(self._message_id, 0)
        return [
            *events,
            self._event(
                "response.output_text.delta", **place, content_index=0, delta=text, logprobs=[]
            ),
        ]

    def _open_message(self) -> list[bytes]:
        self._opened = True
        item = {**self._describe_message("in_progress"), "content": []}
        place = self._place(self._message_id, 0)
        return [
            self._event("response.output_item.added", output_index=0, item=item),
            self._event(
                "response.content_part.added", **place, content_index=0, part=_text_part("")
            ),
        ]

    def _close_items(self) -> list[bytes]:
        """Events that end the message and the calls."""
        items, events = self._list_items(), list[bytes]()
        if not self._opened and items[0]["type"] == "message":
            events += self._open_message()
        for at, item in enumerate(items):
            place = self._place(item["id"], at)
            if item["type"] == "message":
                text = {"text": self._said, "logprobs": []}
                part = _text_part(self._said)
                events += [
                    self._event("response.output_text.done", **place, content_index=0, **text),
                    self._event("response.content_part.done", **place, content_index=0, part=part),
                ]
            else:
                written = {"name": item["name"], "arguments": item["arguments"]}
                kind = "response.function_call_arguments.done"
                events.append(self._event(kind, **place, **written))
            events.append(self._event("response.output_item.done", output_index=at, item=item))
        return events

    def _list_items(self) -> list[Item]:
        """The message, where there is one, then the calls."""
        calls = [] if self._choice.calls is None else self._choice.calls.calls
        items = [self._describe_message(self._status)] if self._said or not calls else []
        return items + [self._describe_call(call) for call in calls]

    def _describe_call(self, call: ToolCall) -> Item:
        return {
            "type": "function_call",
            "id": _call_item_id(call),
            "call_id": call.identifier,
            "name": call.name,
            "arguments": call.arguments,
            "status": self._status,
        }

    def _describe_message(self, status: str) -> Item:
        content = [_text_part(self._said)]
        return {
            "type": "message",
            "id": self._message_id,
            "role": "assistant",
            "status": status,
            "content": content,
        }

    def _describe(self, status: str, output: list[Item]) -> Item:
        request, generation = self._request, self._choice.generation
        read, written = len(generation.prompt), len(generation.tokens)
        usage = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": generation.cached_prompt_tokens},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": read + written,
        }
        return {
            "id": self._identifier,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"}
            if status == "incomplete"
            else None,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "model": self._model,
            "output": output,
            "parallel_tool_calls": request.parallel_tool_calls is not False,
            "previous_response_id": None,
            "store": False,
            "temperature": generation.sampler.sampling.temperature,
            "text": {"format": self._describe_format()},
            "tool_choice": request.tool_choice or "auto",
            "tools": [tool.model_dump() for tool in request.tools or ()],
            "top_p": generation.sampler.sampling.top_p,
            "truncation": "disabled",
            "usage": None if status == "in_progress" else usage,
            "metadata": {},
        }

    def _describe_format(self) -> Item:
        text = self._request.text
        if text is None or text.format is None:
            return {"type": "text"}
        return text.format.model_dump(by_alias=True, exclude_none=True)

    @staticmethod
    def _place(item: str, index: int) -> Item:
        return {"item_id": item, "output_index": index}

    def _event(self, kind: str, **fields: Any) -> bytes:
        payload = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return f"event: {kind}\ndata: {encode_json(payload)}\n\n".encode()


def _call_item_id(call: ToolCall) -> str:
    return f"fc_{call.identifier.removeprefix('call_')}"


def _text_part(text: str) -> Item:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
