from __future__ import annotations

import pytest
import torch

from models.answer_features import (
    LIKELIHOODS,
    answer_features,
    best_matches,
    feature_width,
    mean_over,
)
from models.answer_sequences import answer_log_probs, join_answers, token_log_probs
from models.decoder import Decoder
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=40,
    width=16,
    layers=2,
    heads=2,
    kv_heads=1,
    head_width=8,
    hidden=32,
    context=32,
)


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    return Decoder(SHAPE).eval()


def test_features_of_an_answer_do_not_hang_on_what_is_read_beside_it(model: Decoder) -> None:
    prompts, answers = [[1, 7, 8, 2], [1, 9, 2], [1, 2]], [[7, 8, 4], [9, 9, 9, 9, 9, 4], [4]]
    together = answer_features(model, join_answers(prompts, answers))
    assert together.shape == (3, feature_width(SHAPE))
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        alone = answer_features(model, join_answers([prompt], [answer]))
        assert torch.allclose(together[row], alone[0], atol=1e-5)


def test_likelihoods_are_those_of_the_answer_alone(model: Decoder) -> None:
    sequences = join_answers([[1, 7, 2]], [[9, 9, 4]])
    features = answer_features(model, sequences)[0, 2 * SHAPE.width :][:LIKELIHOODS]
    logprobs = token_log_probs(answer_log_probs(model, sequences), sequences.answers_n)
    expected = [logprobs.mean(), logprobs.sum(), logprobs.min(), 3.0]
    assert features[:4].tolist() == pytest.approx([float(value) for value in expected], abs=1e-5)
    assert features[5] == (logprobs < -2).float().mean()


def test_a_copied_name_matches_and_another_does_not() -> None:
    # positions: two of the prompt, two of the answer, one of padding
    prompt = torch.tensor([[True, True, False, False, False]])
    answer = torch.tensor([[False, False, True, True, False]])
    states = torch.eye(5)[[0, 1, 0, 2, 1]][None]
    assert best_matches(states, prompt, answer).tolist() == [[0.5, 0.5]]
    assert mean_over(states, answer)[0].tolist() == [0.5, 0.0, 0.5, 0.0, 0.0]
