"""Prompts of an endpoint as token ids, refused before tokenizing where they cannot fit.

Tokenizing takes seconds and a hundred times the text's memory where the text is large, so a text
too long for the context by its bytes alone is not tokenized, and the others are tokenized in
threads of their own: one for short texts, which so never wait for a long one, and one for long
ones, of which a bounded number waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.house_template import GUARD
from serving.api.error_responses import (
    check_token,
    prompt_too_long,
    queue_full_error,
    text_too_long,
)

_SHORT_BYTES = 16 << 10
"""Some 5 ms of tokenizing."""
COUNTED_BYTES = 1 << 20
"""Longest text whose tokens are counted: a third of a second, and some 100 MiB meanwhile."""
_NORMALIZER_SHRINKS = 3
"""Most bytes that Unicode's composition makes one of: a Hangul syllable, three signs of three
bytes, is one of three bytes, and Greek letters with two marks are six bytes and become two."""


class PromptEncoder:
    """Tokenizing of prompts for one context.

    Args:
        tokenizer: the model's.
        table: the bytes of each token.
        context: tokens that a prompt and its answer may have together.
        waiting: long prompts that may wait to be tokenized.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, table: Sequence[bytes], context: int, waiting: int
    ) -> None:
        self.tokenizer, self.context, self.waiting = tokenizer, context, waiting
        specials = [len(token.encode()) for token in tokenizer.special_tokens]
        self.longest_token = max(1, *map(len, table), *specials)
        self._shrinks = 1 if tokenizer.backend.normalizer is None else _NORMALIZER_SHRINKS
        self._short = ThreadPoolExecutor(1, thread_name_prefix="tokenize-short")
        self._long = ThreadPoolExecutor(1, thread_name_prefix="tokenize-long")
        self._long_count = 0

    async def encode_chat(
        self,
        messages: Sequence[dict[str, Any]],
        tools: Sequence[dict[str, Any]] | None = None,
        *,
        counts_alone: bool = False,
    ) -> list[int]:
        """Ids of a conversation up to and with what opens the answer.

        Args:
            messages: the conversation.
            tools: that it offers.
            counts_alone: nothing follows, so it may be longer than the context, up to a bound of
                its bytes.

        Raises:
            ApiError: 400 where it leaves no room for an answer, 429 where too many wait.
            ChatFormatError: the chat template refuses it.
        """

        def encode() -> list[int]:
            text = self.tokenizer.render_prompt(messages, tools)
            self._check_bytes(text, "messages", counts_alone=counts_alone)
            return self.tokenizer.encode_rendered(text)

        ids = await self._run(encode, _count_chars([messages, tools or []]))
        return ids if counts_alone else self.require_room(ids, "messages")

    async def encode_text(
        self,
        text: str,
        field: str = "prompt",
        *,
        must_fit: bool = True,
        counts_alone: bool = False,
    ) -> list[int]:
        """Ids of a text to be continued.

        Args:
            text: the text.
            field: the request's field that holds it.
            must_fit: refuse it where it leaves no room for an answer; without, by its bytes alone.
            counts_alone: nothing follows, so it may be longer than the context, up to a bound of
                its bytes.

        Raises:
            ApiError: 400 where it leaves no room for an answer, 429 where too many wait.
        """

        def encode() -> list[int]:
            self._check_bytes(text, field, answers=must_fit, counts_alone=counts_alone)
            return [self.tokenizer.separator_id, *self.tokenizer.encode_text(text)]

        ids = await self._run(encode, len(text))
        return self.require_room(ids, field) if must_fit and not counts_alone else ids

    def check_ids(self, ids: list[int], field: str, *, answers: bool = True) -> None:
        """Refuse token ids that are none of the model's, or leave no room for an answer.

        Args:
            ids: what the request gives as a prompt.
            field: the request's field that holds it.
            answers: an answer follows.

        Raises:
            ApiError: 400, with the place.
        """
        self.require_room(ids, field, answers=answers)
        for at, token in enumerate(ids):
            check_token(token, self.tokenizer.vocabulary, f"{field}[{at}]")

    def require_room(self, ids: list[int], field: str, *, answers: bool = True) -> list[int]:
        """The ids, where they leave room for an answer, or fit where there is none.

        Args:
            ids: of a prompt.
            field: the request's field that holds it.
            answers: an answer follows.

        Raises:
            ApiError: 400.
        """
        if len(ids) > self.context - answers:
            raise prompt_too_long(self.context, str(len(ids)), field, answers=answers)
        return ids

    async def _run(self, encode: Callable[[], list[int]], chars: int) -> list[int]:
        loop = asyncio.get_running_loop()
        if chars <= _SHORT_BYTES:
            return await loop.run_in_executor(self._short, encode)
        if self._long_count > self.waiting:
            raise queue_full_error()
        self._long_count += 1
        running = loop.run_in_executor(self._long, encode)
        running.add_done_callback(self._count_down)
        return await running

    def _count_down(self, _: asyncio.Future[list[int]]) -> None:
        self._long_count -= 1

    def _check_bytes(
        self, text: str, field: str, *, answers: bool = True, counts_alone: bool = False
    ) -> None:
        """Refuse a text whose bytes cannot be as few tokens as fit; guards are never tokens.

        Args:
            text: would be tokenized.
            field: the request's field that holds it.
            answers: an answer follows.
            counts_alone: the context bounds nothing.

        Raises:
            ApiError: 400.
        """
        size = len(text.encode()) - text.count(GUARD) * len(GUARD.encode())
        if counts_alone:
            if size > COUNTED_BYTES:
                raise text_too_long(field, COUNTED_BYTES, size)
            return
        least = size // (self.longest_token * self._shrinks)
        if least > self.context:
            raise prompt_too_long(self.context, f"at least {least}", field, answers=answers)


def _count_chars(value: Any) -> int:
    """Characters of all texts in a JSON value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(len(key) + _count_chars(item) for key, item in value.items())
    return sum(map(_count_chars, value)) if isinstance(value, list | tuple) else 1


async def encode_prompts(
    encoder: PromptEncoder, prompts: Sequence[str | list[int]], field: str
) -> list[list[int]]:
    """Ids of texts and of token ids, all of them checked before the first is used.

    Args:
        encoder: the model's.
        prompts: texts, or token ids that are taken as they are.
        field: the request's field that holds them.

    Raises:
        ApiError: 400 with the prompt's place, 429 where too many wait to be tokenized.
    """
    encoded: list[list[int]] = []
    for at, prompt in enumerate(prompts):
        place = field if len(prompts) == 1 else f"{field}[{at}]"
        if isinstance(prompt, str):
            encoded.append(await encoder.encode_text(prompt, place))
        else:
            encoder.check_ids(prompt, place)
            encoded.append(prompt)
    return encoded
