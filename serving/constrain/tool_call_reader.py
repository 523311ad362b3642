"""Reader of the calls in an answer as it is written: text, names, arguments, piece by piece."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field

from serving.constrain.tool_call_form import ID, ID_PATTERN, ToolCallForm


@dataclass
class ToolCall:
    """One call, as far as it is written."""

    name: str
    arguments: str = ""
    identifier: str = field(default_factory=lambda: f"call_{uuid.uuid4().hex[:24]}")

    def described(self) -> dict[str, object]:
        """The call in OpenAI's form."""
        function = {"name": self.name, "arguments": self.arguments}
        return {"id": self.identifier, "type": "function", "function": function}


@dataclass(frozen=True)
class CallPiece:
    """Some text of a call's arguments; its first piece, without any, tells its name."""

    index: int
    call: ToolCall
    arguments: str | None = None


class ToolCallReader:
    """Splits an answer's text into what is said and what is called.

    Args:
        form: in which the model writes calls.
        speaks_first: text may come before a call; else an answer is a call from its first sign on
            or none at all.
    """

    def __init__(self, form: ToolCallForm, *, speaks_first: bool = True) -> None:
        self._form, self._speaks_first = form, speaks_first
        self._opening = re.compile(_pattern(form.opening))
        self._joint = None if form.joint is None else re.compile(_pattern(form.joint))
        self._pending = ""
        self._state = "text"
        self._depth, self._in_text, self._escaped = 0, False, False
        self.calls: list[ToolCall] = []
        self.is_whole = False
        """The last call's arguments have ended."""

    def push(self, text: str, *, final: bool = False) -> tuple[str, list[CallPiece]]:
        """(what is said, pieces of calls) in some more text.

        Args:
            text: what the model wrote.
            final: no more comes.
        """
        self._pending += text
        said, pieces = "", list[CallPiece]()
        while True:
            state, length = self._state, len(self._pending)
            if state == "text":
                said += self._read_text(final=final)
            elif state == "said":
                said, self._pending = said + self._pending, ""
            elif state == "opening":
                self._skip(self._opening)
            elif state == "name":
                pieces += self._read_name()
            elif state == "arguments":
                pieces += self._read_arguments()
            elif state == "behind" and self._joint is not None:
                self._skip(self._joint)
            if (self._state, len(self._pending)) == (state, length):
                return said, pieces

    def _read_text(self, *, final: bool) -> str:
        trigger = self._form.trigger
        if not self._speaks_first and not self._pending.startswith(trigger):
            if trigger.startswith(self._pending) and not final:
                return ""
            said, self._pending, self._state = self._pending, "", "said"
            return said
        said, found, rest = self._pending.partition(trigger)
        if found:
            self._state, self._pending = "opening", rest
            return said.rstrip("\n")
        held = 0 if final else self._held_back(trigger)
        said = self._pending[: len(self._pending) - held]
        self._pending = self._pending[len(said) :]
        return said

    def _held_back(self, trigger: str) -> int:
        """Signs at the end that may begin a call, line ends before it among them."""
        text = self._pending
        for length in range(min(len(trigger) - 1, len(text)), -1, -1):
            if text.endswith(trigger[:length]):
                spoken = text[: len(text) - length]
                return length + len(spoken) - len(spoken.rstrip("\n"))
        return 0

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self._pending)
        if match is not None:
            self._pending = self._pending[match.end() :]
            self._state = "name"

    def _read_name(self) -> list[CallPiece]:
        name, found, rest = self._pending.partition(self._form.between)
        if not found:
            return []
        call = ToolCall(name)
        self.calls.append(call)
        self._state, self._pending, self.is_whole = "arguments", rest, False
        self._depth, self._in_text, self._escaped = 0, False, False
        return [CallPiece(len(self.calls) - 1, call)]

    def _read_arguments(self) -> list[CallPiece]:
        end = next((at + 1 for at, sign in enumerate(self._pending) if self._closes(sign)), None)
        read = self._pending if end is None else self._pending[:end]
        self._pending = self._pending[len(read) :]
        if end is not None:
            self._state, self.is_whole = "behind", True
        if not read:
            return []
        call = self.calls[-1]
        call.arguments += read
        return [CallPiece(len(self.calls) - 1, call, read)]

    def _closes(self, sign: str) -> bool:
        """Go on behind a sign of the arguments; True for the one that ends them."""
        if self._in_text:
            if self._escaped:
                self._escaped = False
            elif sign == "\\":
                self._escaped = True
            elif sign == '"':
                self._in_text = False
        elif sign == '"':
            self._in_text = True
        elif sign in "{[":
            self._depth += 1
        elif sign in "}]":
            self._depth -= 1
            return self._depth == 0
        return False


def _pattern(text: str) -> str:
    return ID_PATTERN.join(map(re.escape, text.split(ID)))


def describe_call_piece(piece: CallPiece) -> dict[str, object]:
    """A piece as an item of a chunk's ``tool_calls``."""
    if piece.arguments is not None:
        return {"index": piece.index, "function": {"arguments": piece.arguments}}
    function = {"name": piece.call.name, "arguments": ""}
    return {
        "index": piece.index,
        "id": piece.call.identifier,
        "type": "function",
        "function": function,
    }
