"""Texts and messages to tokens and back, over the socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel

TEXT = "naïve 日本語 <|end|> json"


@pytest.fixture
def address(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> Iterator[str]:
    with listening(make_served()) as listens:
        yield listens


def post(address: str, path: str, **fields: Any) -> Any:
    answer = httpx.post(f"{address}/{path}", json={"model": "tiny", **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_tokens_are_those_of_a_completion(address: str, tokenizer: ChatTokenizer) -> None:
    answer = post(address, "tokenize", prompt=TEXT)
    assert answer["tokens"] == [tokenizer.separator_id, *tokenizer.encode_text(TEXT)]
    assert (answer["count"], answer["max_model_len"]) == (len(answer["tokens"]), 64)
    assert answer["token_strs"] is None
    usage = post(address, "completions", prompt=TEXT, max_tokens=1)["usage"]
    assert usage["prompt_tokens"] == answer["count"]
    bare = post(address, "tokenize", prompt=TEXT, add_special_tokens=False)
    assert bare["tokens"] == answer["tokens"][1:]


def test_tokens_of_messages_are_those_of_an_answer(address: str, tokenizer: ChatTokenizer) -> None:
    messages = [{"role": "user", "content": "json?"}]
    answer = post(address, "tokenize", messages=messages, return_token_strs=True)
    assert answer["tokens"] == tokenizer.encode_prompt(messages)
    assert answer["token_strs"][0] == "<|user|>"
    assert answer["token_strs"][-1] == "<|assistant|>"


def test_a_text_comes_back(address: str) -> None:
    tokens = post(address, "tokenize", prompt=TEXT)["tokens"]
    assert post(address, "detokenize", tokens=tokens) == {"prompt": "<|endoftext|>" + TEXT}
    assert post(address, "detokenize", tokens=[]) == {"prompt": ""}


@pytest.mark.parametrize("chars", [100, 100_000])
def test_a_text_longer_than_the_context_is_counted(address: str, chars: int) -> None:
    text = "z " * (chars // 2)
    for asked in ({"prompt": text}, {"messages": [{"role": "user", "content": text}]}):
        answer = post(address, "tokenize", **asked)
        assert answer["count"] > answer["max_model_len"]


def test_counting_has_a_bound_of_its_own(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> None:
    with listening(make_served(body_bytes=4 << 20)) as address:
        body = {"model": "tiny", "prompt": "z" * ((1 << 20) + 1)}
        refused = httpx.post(f"{address}/tokenize", json=body, timeout=60)
    error = refused.json()["error"]
    assert (error["code"], error["param"]) == ("string_above_max_length", "prompt")
    assert "at most 1048576 bytes, but got 1048577" in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("tokenize", {}, "prompt"),
        ("tokenize", {"prompt": "x", "messages": [{"role": "user", "content": "x"}]}, "prompt"),
        ("tokenize", {"prompt": ["x"]}, "prompt"),
        ("tokenize", {"messages": []}, "messages"),
        ("tokenize", {"messages": [{"role": "user", "content": "x", "a": 1}]}, "messages[0].a"),
        (
            "tokenize",
            {"messages": [{"role": "user"}], "add_special_tokens": True},
            "add_special_tokens",
        ),
        ("tokenize", {"prompt": "x", "temperature": 1}, "temperature"),
        ("tokenize", {"prompt": "x", "add_generation_prompt": False}, "add_generation_prompt"),
        ("detokenize", {}, "tokens"),
        ("detokenize", {"tokens": [3, 300]}, "tokens[1]"),
        ("detokenize", {"tokens": [3, "3"]}, "tokens[1]"),
        ("detokenize", {"tokens": [1], "model": "other"}, "model"),
    ],
)
def test_what_is_wrong_is_named(address: str, path: str, body: dict[str, Any], param: str) -> None:
    refused = httpx.post(f"{address}/{path}", json={"model": "tiny", **body})
    assert refused.status_code == (404 if param == "model" else 400)
    assert refused.json()["error"]["param"] == param
