"""Rules about ends meet a grammar: never a token outside it, and always one that may be drawn."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jsonschema
import numpy as np
import openai
import pytest

from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.token_bytes import token_bytes
from serving.api.answers.loaded_model import LoadedModel
from serving.constrain.constraint_factory import CompiledGrammar, ConstraintFactory
from serving.constrain.grammar_source import json_source, regex_source
from serving.engine.batch_sampling import BatchSampler
from serving.engine.decoding_batch import draw_tokens
from serving.engine.generation import AnswerOptions, Generation
from serving.engine.sampling import SamplingParams
from tests.serving.memory_batch import MemoryBatch

ENDS = frozenset(range(5))
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "kind": {"enum": ["a", "b", "c"]}},
    "required": ["name", "kind"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def factory(tokenizer: ChatTokenizer) -> ConstraintFactory:
    return ConstraintFactory(token_bytes(tokenizer), ENDS, tokenizer.encode_text)


def draw_answer(
    compiled: CompiledGrammar, limit: int, seed: int, logits: Any = None, **options: Any
) -> Generation:
    """The engine's own loop; every draw is checked to have had a token to take.

    Args:
        compiled: the grammar.
        limit: most tokens.
        seed: of the draws.
        logits: of the model at every step; random ones if left out.
        options: of the answer.
    """
    size = len(compiled.vocabulary.table)
    batch = MemoryBatch(size, 1)
    batch.join()
    sampling = SamplingParams(temperature=float(seed % 3), seed=seed)
    rules = AnswerOptions(constraint=compiled.constrain(), **options)
    generation = Generation([5 + seed], sampling, limit, ENDS, rules)
    own = batch.feed_rows([0], [generation.prompt])
    while not generation.finished:
        step = own if logits is None else logits
        if logits is None:
            assert np.isfinite(generation.adjust(step[0])).any()
        ((_, token, described),) = draw_tokens([generation], step, [0], BatchSampler())
        generation.accept_token(token, described)
        if not generation.finished:
            own = batch.step([token])
    assert not compiled.failures
    assert generation.failure is None
    assert not ENDS & set(generation.tokens)
    return generation


def text_of(compiled: CompiledGrammar, generation: Generation) -> str:
    return b"".join(compiled.vocabulary.table[token] for token in generation.tokens).decode()


@pytest.mark.parametrize("options", [{"min_tokens": 30}, {"ignores_end": True}])
@pytest.mark.parametrize("pattern", ["abc", "a{2,4}", "[ab]*", "(no)?"])
def test_a_grammar_that_allows_only_the_end_is_ended(
    factory: ConstraintFactory, pattern: str, options: dict[str, Any]
) -> None:
    compiled = factory.compile_now(regex_source(pattern, "x"))
    for seed in range(9):
        generation = draw_answer(compiled, 40, seed, **options)
        assert re.fullmatch(pattern, text_of(compiled, generation))
        cut = len(generation.tokens) == 40  # it might have gone on
        assert generation.finish_reason == ("length" if cut else "stop")


def test_ends_are_put_off_while_the_grammar_has_another_way_on(factory: ConstraintFactory) -> None:
    compiled = factory.compile_now(regex_source("(a|b)+", "x"))
    for seed in range(9):
        plain = draw_answer(compiled, 60, seed)
        longer = draw_answer(compiled, 60, seed, min_tokens=20)
        unending = draw_answer(compiled, 60, seed, ignores_end=True)
        assert len(longer.tokens) >= 20
        assert len(longer.tokens) >= len(plain.tokens)
        assert len(unending.tokens) == 60
        assert unending.finish_reason == "length"  # whole, and cut where it might have gone on


@pytest.mark.parametrize("fill", [-np.inf, np.nan])
def test_a_model_without_numbers_leaves_no_grammar(factory: ConstraintFactory, fill: float) -> None:
    """An end token, the first of the vocabulary, is drawn then: it ends no half object."""
    compiled = factory.compile_now(json_source(SCHEMA, "x"))
    logits = np.full((1, len(compiled.vocabulary.table)), fill, dtype=np.float32)
    for seed in range(6):
        generation = draw_answer(compiled, 60, seed, logits)
        answer = json.loads(text_of(compiled, generation))
        assert jsonschema.Draft202012Validator(SCHEMA).is_valid(answer), answer


def test_an_end_token_that_is_drawn_too_early_is_not_taken(factory: ConstraintFactory) -> None:
    constraint = factory.compile_now(regex_source("ab", "x")).constrain()
    for expected in (b"a", b"b"):
        constraint.allowed_tokens(9)
        token = constraint.settle_token(3)
        constraint.accept_token(token)
        assert factory.vocabulary.table[token] == expected
    assert constraint.settle_token(3) == 3
    assert constraint.ended


class BrokenConstraint:
    """A constraint whose grammar fails once a token was drawn."""

    ended, failure = False, ""

    def allowed_tokens(self, remaining: int) -> Any:
        return np.ones(300, dtype=np.bool_)

    def settle_token(self, token: int) -> int:
        raise RuntimeError("no way on")

    def accept_token(self, token: int) -> None:
        """Nothing."""


def test_a_grammar_that_fails_behind_a_draw_ends_its_answer_alone() -> None:
    sampling = SamplingParams(temperature=0)
    broken, fine = (
        Generation([7], sampling, 9, ENDS, AnswerOptions(constraint=constraint))
        for constraint in (BrokenConstraint(), None)
    )
    logits = np.zeros((2, 300), dtype=np.float32)
    logits[:, 9] = 1
    drawn = draw_tokens([broken, fine], logits, [0, 1], BatchSampler())
    assert [token for _, token, _ in drawn] == [9, 9]
    assert str(broken.failure) == "no way on"
    assert fine.failure is None


def test_choices_have_a_constraint_each(
    make_served: Callable[..., LoadedModel], listening: Callable[..., AbstractContextManager[str]]
) -> None:
    body = {"model": "tiny", "temperature": 1.5, "seed": 4, "guided_json": SCHEMA}
    chat = {**body, "messages": [{"role": "user", "content": "x"}]}
    plain = {**body, "prompt": ["x", "y"], "max_tokens": 30}
    with (
        listening(make_served(context=300)) as address,
        openai.OpenAI(base_url=address, api_key="none", max_retries=0) as client,
    ):
        many: Any = client.post("/chat/completions", body={**chat, "n": 6}, cast_to=object)
        one: Any = client.post("/chat/completions", body=chat, cast_to=object)
        best: Any = client.post("/completions", body={**plain, "best_of": 4}, cast_to=object)
    texts = [choice["message"]["content"] for choice in many["choices"]]
    for text in (*texts, *(choice["text"] for choice in best["choices"])):
        jsonschema.validate(json.loads(text), SCHEMA)
    assert len(set(texts)) > 3
    assert texts[0] == one["choices"][0]["message"]["content"]
    assert [choice["index"] for choice in best["choices"]] == [0, 1]
