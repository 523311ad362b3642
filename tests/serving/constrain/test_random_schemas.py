"""Random schemas, and answers of a model that draws at random: each parses and validates."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from benchmarks.serve.random_schemas import make_schema
from components.text.chat.chat_tokenizer import ChatTokenizer
from components.text.chat.token_bytes import token_bytes
from serving.api.error_responses import ApiError
from serving.constrain.constraint_factory import CompiledGrammar, ConstraintFactory
from serving.constrain.grammar_source import json_source
from serving.engine.batch_sampling import BatchSampler
from serving.engine.decoding_batch import draw_tokens
from serving.engine.generation import AnswerOptions, Generation
from serving.engine.sampling import SamplingParams
from tests.serving.memory_batch import MemoryBatch

ENDS = frozenset(range(5))


@pytest.fixture(scope="module")
def factory(tokenizer: ChatTokenizer) -> ConstraintFactory:
    return ConstraintFactory(token_bytes(tokenizer), ENDS, tokenizer.encode_text)


def answer_schema(compiled: CompiledGrammar, limit: int, temperature: float, seed: int) -> str:
    """The answer of the engine's own loop over a model with random logits."""
    table = compiled.vocabulary.table
    batch = MemoryBatch(len(table), 1)
    batch.join()
    options = AnswerOptions(constraint=compiled.constrain())
    sampling = SamplingParams(temperature=temperature, seed=seed)
    generation = Generation([seed % len(table)], sampling, limit, ENDS, options)
    logits = batch.feed_rows([0], [generation.prompt])[0]
    while not generation.finished:
        ((_, token, described),) = draw_tokens([generation], logits[None], [0], BatchSampler())
        generation.accept_token(token, described)
        if not generation.finished:
            logits = batch.step([token])[0]
    assert generation.finish_reason in ("stop", "length")
    assert not compiled.failures
    return b"".join(table[token] for token in generation.tokens).decode()


def check_schemas(factory: ConstraintFactory, seeds: range) -> int:
    """Number of schemas that were held; every finished answer is checked."""
    held = 0
    for seed in seeds:
        schema = make_schema(seed)
        Draft202012Validator.check_schema(schema)
        try:
            compiled = factory.compile_now(json_source(schema, "schema"))
        except ApiError:
            continue
        held += 1
        random = np.random.default_rng(seed)
        for temperature in (1.0, 2.0):
            limit = len(compiled.path) + int(random.integers(0, 150))
            text = answer_schema(compiled, max(1, limit), temperature, seed)
            check_instance(schema, text)
    return held


def check_instance(schema: dict[str, Any], text: str) -> None:
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(json.loads(text))]
    assert not errors, (schema, text, errors)


def test_answers_to_random_schemas_validate(factory: ConstraintFactory) -> None:
    assert check_schemas(factory, range(60)) >= 57


@pytest.mark.slow
def test_answers_to_a_thousand_random_schemas_validate(factory: ConstraintFactory) -> None:
    assert check_schemas(factory, range(1000, 2000)) >= 950
