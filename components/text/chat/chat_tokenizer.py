"""Tokenizer of a model, with its chat template and its special tokens: the one form of text and
conversations in training, measuring and serving.

Nothing else knows a token's id. In a user's text the spelling of a special token stays ordinary
text: a guard inside it, which the tokenizer drops, keeps it from being read as the token.
"""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import DataError
from components.text.chat.house_template import GUARD, HOUSE_TEMPLATE, HOUSE_TOKENS, guard_token
from components.text.chat.template_sandbox import ChatFormatError, ChatTemplate
from components.text.chat.tokenizer_files import (
    HOUSE_SPECIAL_TOKENS,
    SpecialTokens,
    read_chat_files,
    read_fast_tokenizer,
    vocabulary_size,
)

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TEMPERATURE = 0.7
"""Of an answer where a request names none: the endpoint's and an exported folder's default."""
ROLES = ("system", "developer", "user", "assistant", "tool")
"""Roles of OpenAI's messages; of somebody's template, which of them it writes is its own affair."""
_ALIASES = {"developer": "system"}
"""Roles that templates know by another name, where they do not name them."""
_REASONING_FIELDS = ("reasoning_content", "thinking", "reasoning")
"""Names of a message's reasoning; templates read one of the first two, as transformers gives."""
Message = Mapping[str, Any]
"""A message of a conversation in OpenAI's form: ``role``, ``content`` and others."""


@dataclass(frozen=True)
class TokenizedConversation:
    """Token ids of a conversation, with the spans of what the assistant says in it."""

    ids: list[int]
    answers: tuple[tuple[int, int], ...]
    """(first token, one behind the last) of each answer, its end token included."""


class ChatTokenizer:
    """Text and conversations to token ids, and back.

    Args:
        backend: vocabulary and rules, guards dropped.
        template: source of the chat template.
        special: the parts of the special tokens.
        name: of the folder, for errors.

    Raises:
        DataError: a special token is not in the vocabulary, or the template is no Jinja.
    """

    def __init__(
        self,
        backend: Tokenizer,
        template: str = HOUSE_TEMPLATE,
        special: SpecialTokens = HOUSE_SPECIAL_TOKENS,
        name: str = "tokenizer",
    ) -> None:
        self.backend, self.special, self._name = backend, special, name
        self.writes_guards = template == HOUSE_TEMPLATE
        """The template guards texts itself, for whoever renders it elsewhere."""
        self._knows_developer = "developer" in template
        try:
            self.template = ChatTemplate(template, special.names, bounded=not self.writes_guards)
        except DataError as error:
            raise DataError(f"{name}: {error}") from error
        self.vocabulary = vocabulary_size(backend)
        self.separator_id = self._token_id(special.separator)
        self.padding_id = self._token_id(special.padding)
        self.answer_end_ids = tuple(map(self._token_id, special.answer_ends))
        self.stop_ids = (*self.answer_end_ids, *map(self._token_id, special.stops))
        """Tokens at which an endpoint stops, in the order of ``generation_config.json``."""

    def _token_id(self, token: str) -> int:
        identifier = self.backend.token_to_id(token)
        if identifier is None:
            raise DataError(f"{self._name}: the special token {token!r} is not in the vocabulary")
        return int(identifier)

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """Id of every special token by its spelling."""
        added = self.backend.get_added_tokens_decoder()
        return {token.content: number for number, token in sorted(added.items()) if token.special}

    @cached_property
    def _guarded(self) -> dict[str, str]:
        return {GUARD: "", **{token: guard_token(token) for token in self.special_tokens}}

    def guard_text(self, text: str) -> str:
        """A text in which no special token is read."""
        if GUARD not in text and not any(token in text for token in self.special_tokens):
            return text
        for spelling, guarded in self._guarded.items():
            text = text.replace(spelling, guarded)
        return text

    def encode_text(self, text: str) -> list[int]:
        """Ids of a user's text, in which special tokens' spellings are ordinary text."""
        return self.encode_rendered(self.guard_text(text))

    def encode_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of several texts at once."""
        guarded = [self.guard_text(text) for text in texts]
        encodings = self.backend.encode_batch_fast(guarded, add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    def encode_prompt(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> list[int]:
        """Ids of a conversation up to and with what opens the assistant's answer.

        Raises:
            ChatFormatError: a role, a part or a field that the template refuses.
        """
        return self.encode_rendered(self.render_prompt(messages, tools))

    def render_prompt(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> str:
        """Text of a conversation up to and with what opens the answer, special tokens spelt.

        Raises:
            ChatFormatError: a role, a part or a field that the template refuses.
        """
        offered = None if tools is None else self._guard(list(tools))
        return self.template.render(self._prepare(messages), tools=offered, opens_answer=True)

    def render_conversation(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> str:
        """Text of a whole conversation, special tokens spelt, its answers among it.

        Raises:
            ChatFormatError: a role, a part or a field that the template refuses.
        """
        return self.template.render(self._prepare(messages), tools=tools)

    def encode_rendered(self, text: str) -> list[int]:
        """Ids of a text whose special tokens are read as such: ours or a template's, no user's."""
        ids: list[int] = self.backend.encode(text, add_special_tokens=False).ids
        return ids

    def encode_question(self, question: str) -> list[int]:
        """Ids of the prompt that asks one question."""
        return self.encode_prompt([{"role": "user", "content": question}])

    def encode_answer(self, question: str, answer: str) -> TokenizedConversation:
        """Ids of a question and its answer."""
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        (conversation,) = self.encode_conversation(turns)
        return conversation

    def encode_conversation(
        self, messages: Sequence[Message], tools: Sequence[Message] | None = None
    ) -> list[TokenizedConversation]:
        """Ids of a whole conversation, and where the assistant speaks in them.

        An answer is what the template adds to the prompt before it, up to its end token. Some
        templates write earlier answers otherwise than the last one (without their reasoning); there
        every answer becomes an example of its own, as the last of the conversation up to it. An
        answer whose ``weight`` is 0 stands in the text and is not learnt.

        Raises:
            ChatFormatError: the template refuses it, or there is no answer to learn in it.
        """
        held = self._prepare(messages)
        places = [
            at
            for at, message in enumerate(held)
            if message.get("role") == "assistant" and message.get("weight") != 0
        ]
        if not places:
            raise ChatFormatError("messages: no assistant speaks")
        held = held[: places[-1] + 1]
        whole = self._render(held, tools)
        spans: list[tuple[int, int]] = []
        for at in places:
            span = self._find_answer(whole, held, at, tools)
            if span is None:
                break
            spans.append(span)
        if len(spans) == len(places):
            return [self._encode_spans(whole, spans)]
        examples = []
        for at in places:
            text = self._render(held[: at + 1], tools)
            own = self._find_answer(text, held, at, tools)
            if own is None:
                raise ChatFormatError(
                    f"messages.{at}: the chat template opens this answer in another way than it "
                    "writes it"
                )
            examples.append(self._encode_spans(text, [own]))
        return examples

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids, special tokens left out."""
        return str(self.backend.decode(list(ids), skip_special_tokens=True))

    def _render(self, messages: Sequence[Message], tools: Sequence[Message] | None) -> str:
        return self.template.render(messages, tools=tools, today=False)

    def _find_answer(
        self, whole: str, messages: Sequence[Message], at: int, tools: Sequence[Message] | None
    ) -> tuple[int, int] | None:
        """Signs of an answer in the text of a conversation; None where the prompt is no part."""
        prompt = self.template.render(messages[:at], tools=tools, opens_answer=True, today=False)
        until = whole if at + 1 == len(messages) else self._render(messages[: at + 1], tools)
        if not until.startswith(prompt) or not whole.startswith(until):
            return None
        for call in messages[at].get("tool_calls") or ():
            name = _name_of_call(call)
            if name and until.find(name, len(prompt)) < 0:
                raise ChatFormatError(f"messages.{at}: the chat template writes no tool calls")
        return len(prompt), len(until)

    def _encode_spans(self, text: str, spans: Sequence[tuple[int, int]]) -> TokenizedConversation:
        encoding = self.backend.encode(text, add_special_tokens=False)
        answers = tuple(self._token_span(encoding, *span) for span in spans)
        return TokenizedConversation(encoding.ids, answers)

    def _token_span(self, encoding: Encoding, start: int, end: int) -> tuple[int, int]:
        """Tokens of a span of signs, up to its last end token where it has one."""
        offsets = encoding.offsets
        first = bisect_right(offsets, start, key=itemgetter(1))
        behind = bisect_left(offsets, end, key=itemgetter(0))
        ends = [at for at in range(first, behind) if encoding.ids[at] in self.answer_end_ids]
        return first, (ends[-1] + 1 if ends else behind)

    def _prepare(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """Messages as templates expect them: arguments opened, text parts joined, text guarded."""
        if self.writes_guards:
            return [dict(message) for message in messages]
        held = [_normalise_message(at, message) for at, message in enumerate(messages)]
        if not self._knows_developer:
            for message in held:
                message["role"] = _ALIASES.get(message["role"], message["role"])
        return [self._guard(message) for message in held]

    def _guard(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.guard_text(value)
        if isinstance(value, Mapping):
            return {self._guard(key): self._guard(item) for key, item in value.items()}
        return [self._guard(item) for item in value] if isinstance(value, list | tuple) else value


def _normalise_message(at: int, message: Message) -> dict[str, Any]:
    """A message with opened tool arguments, joined text parts and its reasoning by its names.

    Raises:
        ChatFormatError: its role or its content is none that a model reads; many templates would
            leave it out without a word.
    """
    held = dict(message)
    if held.get("role") not in ROLES:
        role = json.dumps(str(held.get("role", ""))[:40], ensure_ascii=False)
        raise ChatFormatError(f"messages.{at}.role: must be one of {', '.join(ROLES)}, is {role}")
    parts = held.get("content")
    if isinstance(parts, list):
        for place, part in enumerate(parts):
            if not _is_text_part(part):
                raise ChatFormatError(
                    f"messages.{at}.content.{place}: must be a text part, "
                    '{"type": "text", "text": "..."}'
                )
        held["content"] = "".join(part["text"] for part in parts)
    elif not isinstance(parts, str) and (parts is not None or held["role"] != "assistant"):
        raise ChatFormatError(f"messages.{at}.content: must be text or a list of text parts")
    calls = held.get("tool_calls")
    if isinstance(calls, list):
        held["tool_calls"] = [_open_arguments(call) for call in calls]
    reasoning = next((held[key] for key in _REASONING_FIELDS if held.get(key) is not None), None)
    if reasoning is not None:
        held = {"thinking": reasoning, **held, "reasoning_content": reasoning}
    return held


def _name_of_call(call: Any) -> str:
    """Name of the function that a tool call calls; empty where it has none."""
    function = call.get("function", call) if isinstance(call, Mapping) else None
    return str(function.get("name") or "") if isinstance(function, Mapping) else ""


def _is_text_part(part: Any) -> bool:
    return (
        isinstance(part, Mapping)
        and part.get("type") == "text"
        and isinstance(part.get("text"), str)
    )


def _open_arguments(call: Any) -> Any:
    """A tool call whose arguments are an object: OpenAI writes JSON text, templates expect this."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("arguments"), str):
        return call
    try:
        arguments = json.loads(function["arguments"])
    except ValueError:
        return call
    if not isinstance(arguments, dict):
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def open_tokenizer(folder: Path) -> ChatTokenizer:
    """The tokenizer saved in ``folder``.

    A folder with a ``tokenizer.json`` alone is of this house's template, as older ones are.

    Raises:
        DataError: there is none, it is damaged, or it comes without a chat template and its
            special tokens are not the house's.
    """
    backend = read_fast_tokenizer(folder)
    chat_files = read_chat_files(folder)
    if chat_files is not None:
        return ChatTokenizer(backend, *chat_files, name=folder.name)
    for token in HOUSE_TOKENS:
        if backend.token_to_id(token) is None:
            raise DataError(
                f"{folder.name}: holds no chat template, and its tokens are not those of a "
                f"tokenizer trained here ({token} is missing): import it with import_tokenizer"
            )
    return ChatTokenizer(backend, name=folder.name)
