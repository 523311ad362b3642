"""Prompts that cannot fit are refused untokenized; short ones do not wait for long ones."""

from __future__ import annotations

import asyncio
import threading

import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.house_template import GUARD
from components.text.chat.token_bytes import token_bytes
from serving.api.error_responses import ApiError
from serving.engine.prompt_encoder import PromptEncoder


def encoder(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch, context: int, waiting: int = 1
) -> tuple[PromptEncoder, list[int], threading.Event]:
    """An encoder, the lengths of the texts it tokenizes, and the leave it waits for on long ones."""
    made = PromptEncoder(tokenizer, token_bytes(tokenizer), context, waiting)
    lengths: list[int] = []
    leave = threading.Event()
    leave.set()
    encode = tokenizer.encode_rendered

    def record(text: str) -> list[int]:
        lengths.append(len(text))
        if len(text) > 20_000:
            leave.wait(20)
        return encode(text)

    monkeypatch.setattr(tokenizer, "encode_rendered", record)
    return made, lengths, leave


def test_a_text_that_cannot_fit_is_never_tokenized(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, lengths, _ = encoder(tokenizer, monkeypatch, context=64)

    async def check() -> None:
        for ask in (
            made.encode_text("word " * 200_000),
            made.encode_chat([{"role": "user", "content": "word " * 200_000}]),
            made.encode_text("🦊" * 64 * made.longest_token),
        ):
            with pytest.raises(ApiError, match=r"64 tokens.*at least \d+ tokens") as refused:
                await ask
            assert refused.value.body["error"]["code"] == "context_length_exceeded"

    asyncio.run(check())
    assert lengths == []


def test_no_text_that_fits_is_refused(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest token again and again is the longest text of a context; guards count nothing."""
    made, _, _ = encoder(tokenizer, monkeypatch, context=64)
    table = token_bytes(tokenizer)
    longest = max(table, key=len).decode()
    text = longest * (62 - 1)
    expected = tokenizer.encode_text(text)
    assert asyncio.run(made.encode_text(text)) == [tokenizer.separator_id, *expected]
    guarded = GUARD * 100_000 + "x"
    assert asyncio.run(made.encode_text(guarded)) == [
        tokenizer.separator_id,
        *tokenizer.encode_text("x"),
    ]


def test_the_exact_number_is_told_where_it_is_known(tokenizer: ChatTokenizer) -> None:
    made = PromptEncoder(tokenizer, token_bytes(tokenizer), 64, 1)
    with pytest.raises(ApiError, match="has 65 tokens") as refused:
        asyncio.run(made.encode_text("z" * 64))
    assert refused.value.body["error"]["param"] == "prompt"


def test_a_short_prompt_overtakes_long_ones_and_few_of_these_wait(
    tokenizer: ChatTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, _, leave = encoder(tokenizer, monkeypatch, context=1_000_000, waiting=1)
    leave.clear()

    async def check() -> None:
        long = [asyncio.create_task(made.encode_text("z" * 30_000)) for _ in range(2)]
        await asyncio.sleep(0)
        assert len(await made.encode_text("z")) == 2  # while the first long one is tokenized
        with pytest.raises(ApiError) as refused:
            await made.encode_text("z" * 30_000)
        assert refused.value.status == 429
        leave.set()
        assert [len(ids) for ids in await asyncio.gather(*long)] == [30_001, 30_001]
        assert len(await made.encode_text("z" * 30_000)) == 30_001

    asyncio.run(check())
