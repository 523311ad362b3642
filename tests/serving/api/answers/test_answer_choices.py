"""Choices, log probabilities, echoes and the rules of ends, over the socket."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from serving.api.answers.loaded_model import LoadedModel
from serving.api.request_schema import CompletionRequest, derive_seed
from serving.engine.decoding_batch import SavedPrefix
from serving.engine.sampling import Logits
from tests.serving.memory_batch import MemoryBatch

MakeServed = Callable[..., LoadedModel]
Listen = Callable[..., AbstractContextManager[str]]
ASK: Any = [{"role": "user", "content": "What does json.dumps do?"}]
SPOKEN = "naïve 日本語 🦊, then"


class Scripted(MemoryBatch):
    """Its favourite token is the script's next one, the model's end behind the last."""

    def __init__(self, vocabulary: int, slots: int, script: Sequence[int]) -> None:
        super().__init__(vocabulary, slots)
        self.script = script

    def feed_rows(self, rows: Sequence[int], pieces: Sequence[Sequence[int]]) -> Logits:
        return np.stack([self._favour(0)] * len(pieces))

    def read_prefix(self, row: int, length: int) -> SavedPrefix:
        return np.zeros(length)

    def write_prefix(self, row: int, prefix: SavedPrefix, length: int) -> None:
        """The prompt changes nothing in the answer."""

    def step(self, tokens: Sequence[int]) -> Logits:
        for row, token in zip(self.rows, tokens, strict=True):
            row += [token] if token >= 0 else []
        return np.stack([self._favour(len(row)) for row in self.rows])

    def _favour(self, at: int) -> Logits:
        logits = np.zeros(self.vocabulary, dtype=np.float32)
        logits[self.script[at] if at < len(self.script) else 4] = 9
        return logits


@pytest.fixture
def scripted(
    make_served: MakeServed, listening: Listen, tokenizer: ChatTokenizer
) -> Iterator[openai.OpenAI]:
    script = tokenizer.encode_text(SPOKEN)
    size = tokenizer.vocabulary
    served = make_served(batch=lambda slots: Scripted(size, slots, script), context=100)
    with listening(served) as address:
        yield openai.OpenAI(base_url=address, api_key="none", max_retries=0)


@pytest.fixture
def client(make_served: MakeServed, listening: Listen) -> Iterator[openai.OpenAI]:
    with listening(make_served()) as address:
        yield openai.OpenAI(base_url=address, api_key="none", max_retries=0)


def complete(client: openai.OpenAI, prompt: Any = "x", **fields: Any) -> list[str]:
    """Texts of a completion's choices, in their order."""
    body = {"model": "tiny", "prompt": prompt, "max_tokens": 12, **fields}
    answer: Any = client.post("/completions", body=body, cast_to=object)
    assert [choice["index"] for choice in answer["choices"]] == list(range(len(answer["choices"])))
    return [choice["text"] for choice in answer["choices"]]


def test_choices_are_those_of_their_seeds_and_the_first_is_the_single_one(
    client: openai.OpenAI,
) -> None:
    drawn = {"seed": 5, "temperature": 1.5}
    three = complete(client, n=3, **drawn)
    assert len(set(three)) == 3
    assert complete(client, n=3, **drawn) == three
    assert complete(client, **drawn) == three[:1]
    assert complete(client, seed=derive_seed(5, 2), temperature=1.5) == three[2:]


def test_prompts_of_a_list_are_answered_as_each_alone(
    client: openai.OpenAI, tokenizer: ChatTokenizer
) -> None:
    drawn = {"seed": 5, "temperature": 1.5, "n": 2}
    alone = [complete(client, prompt, **drawn) for prompt in ("one", "two", "three")]
    assert complete(client, ["one", "two", "three"], **drawn) == [
        text for texts in alone for text in texts
    ]
    ids = [[tokenizer.separator_id, *tokenizer.encode_text(text)] for text in ("one", "two")]
    assert complete(client, ids, **drawn) == alone[0] + alone[1]
    assert complete(client, ids[1], **drawn) == alone[1]


def test_a_list_counts_each_prompt_once(client: openai.OpenAI) -> None:
    body: Any = {"model": "tiny", "max_tokens": 4, "ignore_eos": True}
    single: Any = client.post("/completions", body={**body, "prompt": "ab"}, cast_to=object)
    many: Any = client.post(
        "/completions", body={**body, "prompt": ["ab", "ab"], "n": 3}, cast_to=object
    )
    assert many["usage"]["prompt_tokens"] == 2 * single["usage"]["prompt_tokens"]
    assert many["usage"]["completion_tokens"] == 2 * 3 * 4


def test_a_stream_of_choices_is_the_whole_answer(client: openai.OpenAI) -> None:
    asked: Any = {
        "model": "tiny", "messages": ASK, "n": 3, "seed": 2, "temperature": 1.2,
        "max_tokens": 12, "logprobs": True, "top_logprobs": 2,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked)
    texts, tokens, finishes = ["", "", ""], [[], [], []], {}
    for chunk in client.chat.completions.create(**asked, stream=True):
        (choice,) = chunk.choices
        assert choice.index not in finishes
        texts[choice.index] += choice.delta.content or ""
        tokens[choice.index] += choice.logprobs.content if choice.logprobs else []
        if choice.finish_reason:
            finishes[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert tokens == [choice.logprobs.content for choice in whole.choices]
    assert finishes == {choice.index: choice.finish_reason for choice in whole.choices}


def test_log_probabilities_have_exact_bytes(scripted: openai.OpenAI) -> None:
    answer = scripted.chat.completions.create(
        model="tiny", messages=ASK, temperature=0, logprobs=True, top_logprobs=3
    )
    tokens = answer.choices[0].logprobs.content
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == SPOKEN
    partial = [token.token for token in tokens if token.token.startswith("bytes:")]
    assert "bytes:\\xc3" in partial
    size = 300
    expected = 9 - math.log(math.exp(9) + size - 1)
    assert tokens[0].logprob == pytest.approx(expected, abs=2e-3)
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.top_logprobs[0].token == token.token
        assert token.top_logprobs[1].logprob == pytest.approx(expected - 9, abs=2e-3)
    special = [token for token in tokens[0].top_logprobs if token.bytes is None]
    assert [token.token for token in special] == ["<|endoftext|>", "<|user|>"]


def test_log_probabilities_of_completions(scripted: openai.OpenAI) -> None:
    answer = scripted.completions.create(model="tiny", prompt="x", temperature=0, logprobs=2)
    reported = answer.choices[0].logprobs
    assert answer.choices[0].text == SPOKEN
    assert reported.text_offset[0] == 0
    for token, start in zip(reported.tokens, reported.text_offset, strict=True):
        if not token.startswith("bytes:"):
            assert SPOKEN[start:].startswith(token)
    assert all(
        2 <= len(top) <= 3 and top[token] == logprob
        for token, logprob, top in zip(
            reported.tokens, reported.token_logprobs, reported.top_logprobs, strict=True
        )
    )


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_behind_a_stop_string_are_not_reported(
    scripted: openai.OpenAI, stream: bool
) -> None:
    fields: Any = {"model": "tiny", "messages": ASK, "temperature": 0, "logprobs": True}
    answer: Any = scripted.chat.completions.create(**fields, stop="本", stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    tokens = [token for choice in choices if choice.logprobs for token in choice.logprobs.content]
    assert bytes(byte for token in tokens for byte in token.bytes).decode() == "naïve 日"
    assert choices[-1].finish_reason == "stop"


def test_ends_of_the_request_itself(scripted: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    def tell(**fields: Any) -> tuple[str, str]:
        body = {"model": "tiny", "prompt": "x", "temperature": 0, **fields}
        answer: Any = scripted.post("/completions", body=body, cast_to=object)
        return answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]

    (comma,) = tokenizer.encode_text(",")
    before = SPOKEN.partition(",")[0]
    shows = {"include_stop_str_in_output": True}
    assert tell(stop_token_ids=[comma]) == (before, "stop")
    assert tell(stop_token_ids=[comma], **shows) == (before + ",", "stop")
    assert tell(stop=["語", " 日本"]) == ("naïve", "stop")
    assert tell(stop=["語", " 日本"], **shows) == ("naïve 日本", "stop")
    assert tell(stop="n", min_tokens=3)[0] == SPOKEN[: SPOKEN.rindex("n")]
    longer, finish = tell(ignore_eos=True, max_tokens=60, skip_special_tokens=False)
    assert (longer.partition("<|end|>")[0], finish) == (SPOKEN, "length")
    assert tell(ignore_eos=True, max_tokens=60) == (SPOKEN, "length")


def test_bias_and_penalties_reach_the_draws(
    scripted: openai.OpenAI, tokenizer: ChatTokenizer
) -> None:
    (letter,) = tokenizer.encode_text("Q")
    assert complete(scripted, temperature=0, logit_bias={str(letter): 100}) == ["Q" * 12]
    assert complete(scripted, temperature=0, logit_bias={str(letter): 8.5}) != ["Q" * 12]
    once = complete(
        scripted, temperature=0, logit_bias={str(letter): 10}, frequency_penalty=2, max_tokens=2
    )[0]
    assert once == "Q" + SPOKEN[1]
    repeated = {"repeat_penalty": 2, "repeat_last_n": -1, "logit_bias": {str(letter): 100}}
    assert complete(scripted, temperature=0, **repeated) == ["Q" * 12]


def test_an_echo_comes_first(scripted: openai.OpenAI, tokenizer: ChatTokenizer) -> None:
    echoed = {"echo": True, "temperature": 0, "max_tokens": 60}
    assert complete(scripted, "日本: ", **echoed) == ["日本: " + SPOKEN]
    ids = tokenizer.encode_text("from ids: ")
    assert complete(scripted, [ids, ids], **echoed) == ["from ids: " + SPOKEN] * 2
    body: Any = {"model": "tiny", "prompt": ["a ", "b "], **echoed}
    texts = ["", ""]
    for chunk in scripted.completions.create(**body, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == ["a " + SPOKEN, "b " + SPOKEN]


def test_the_best_of_many_is_the_likeliest(client: openai.OpenAI) -> None:
    drawn: Any = {"model": "tiny", "prompt": "x", "seed": 3, "temperature": 1.5, "max_tokens": 6}
    all_six: Any = client.post("/completions", body={**drawn, "n": 6, "logprobs": 0}, cast_to=dict)
    two: Any = client.post("/completions", body={**drawn, "n": 2, "best_of": 6}, cast_to=dict)

    def mean(choice: dict[str, Any]) -> float:
        values = choice["logprobs"]["token_logprobs"]
        return sum(values) / max(1, len(values))

    ranked = sorted(all_six["choices"], key=mean, reverse=True)
    assert [choice["text"] for choice in two["choices"]] == [
        choice["text"] for choice in ranked[:2]
    ]
    assert all(choice["logprobs"] is None for choice in two["choices"])
    assert two["usage"] == all_six["usage"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 17}, "n"),
        (
            {"stream_options": {"continuous_usage_stats": True}},
            "stream_options.continuous_usage_stats",
        ),
        ({"best_of": 17}, "best_of"),
        ({"n": 3, "best_of": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
        ({"prompt": ["x"] * 17}, "prompt"),
        ({"prompt": ["x"] * 9, "n": 2}, "prompt"),
        ({"prompt": ["x", "word " * 100]}, "prompt[1]"),
        ({"prompt": [[5], [6] * 64]}, "prompt[1]"),
        ({"prompt": [5, 6, 5000]}, "prompt[2]"),
        ({"prompt": [[5], [6, 300]]}, "prompt[1][1]"),
        ({"logit_bias": {"300": 1}}, "logit_bias.300"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"05": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"stop_token_ids": [4, 300]}, "stop_token_ids[1]"),
        ({"min_tokens": 13}, "min_tokens"),
        ({"repeat_penalty": 1.1}, "repeat_penalty"),
        ({"repeat_penalty": 1.1, "repeat_last_n": 64}, "repeat_last_n"),
        ({"presence_penalty": 1, "repeat_last_n": 0}, "repeat_last_n"),
        (
            {"repeat_penalty": 1.1, "repeat_last_n": -1, "repetition_penalty": 1.2},
            "repeat_penalty",
        ),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"top_logprobs": 1}, "top_logprobs"),
    ],
)
def test_what_cannot_be_is_refused_before_it_runs(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        complete(client, **fields)
    assert refused.value.param == param


def test_all_choices_start_or_none(make_served: MakeServed, listening: Listen) -> None:
    served = make_served(slots=1, queue=2)
    with listening(served) as address:
        url = f"{address}/completions"
        body = {"model": "tiny", "prompt": "x", "max_tokens": 3}
        answer = httpx.post(url, json={**body, "n": 4})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")
        assert httpx.post(url, json={**body, "n": 3}).status_code == 200
        assert served.engine.counts.requests == 3


def test_the_client_of_a_request_is_its_user() -> None:
    def name(**fields: str) -> str:
        body = {"model": "m", "prompt": "x", **fields}
        return CompletionRequest.model_validate(body).answer_options("10.0.0.7").client

    assert name() == "10.0.0.7"
    assert name(user="ada") == "ada"
    assert name(user="ada", safety_identifier="4f") == "4f"


def test_an_empty_question_has_as_many_choices_as_asked(client: openai.OpenAI) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": ""}], "n": 2}
    answer: Any = client.post("/chat/completions", body=body, cast_to=object)
    assert [choice["message"]["content"] for choice in answer["choices"]] == ["", ""]
    assert json.dumps(answer["usage"]["completion_tokens"]) == "0"
