from __future__ import annotations

import pytest
import torch

from models.decoder import Decoder
from models.generate import generate_answers
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=50, width=32, layers=2, heads=2, kv_heads=1, head_width=16, hidden=64, context=64
)
PROMPTS = [[7, 8, 9], [1], [5, 6, 7, 8, 9, 10, 11], [30, 31], [2, 3, 4, 5]]


@pytest.fixture(scope="module")
def model() -> Decoder:
    torch.manual_seed(0)
    made = Decoder(SHAPE).eval()
    with torch.no_grad():  # sharp enough that rounding decides nothing
        made.embed_tokens.weight.mul_(8)
    return made


@torch.no_grad()
def slow(model: Decoder, prompt: list[int], max_new: int, stop: int) -> tuple[list[int], float]:
    """Greedy, one prompt at a time, the whole sequence anew for every token."""
    ids, total = list(prompt), 0.0
    while len(ids) < len(prompt) + max_new and (len(ids) == len(prompt) or ids[-1] != stop):
        scores = model(torch.tensor([ids]))[0, -1].log_softmax(-1)
        ids.append(int(scores.argmax()))
        total += float(scores.max())
    return ids[len(prompt) :], total


def test_greedy_in_a_ragged_batch_is_what_a_loop_without_cache_says(model: Decoder) -> None:
    free = [slow(model, prompt, 12, stop=-1)[0] for prompt in PROMPTS]
    stop = free[2][3]  # a token that some rows meet early and others late or never
    expected = [slow(model, prompt, 12, stop) for prompt in PROMPTS]
    given = generate_answers(model, PROMPTS, max_new=12, stop_ids=(stop,), temperature=0)
    assert [one.tokens for one in given] == [tokens for tokens, _ in expected]
    assert len({len(one.tokens) for one in given}) > 1
    assert [one.stopped for one in given] == [tokens[-1] == stop for tokens, _ in expected]
    for one, (_, total) in zip(given, expected, strict=True):
        assert sum(one.logprobs) == pytest.approx(total, abs=1e-4)
        assert len(one.logprobs) == len(one.tokens)


def test_a_row_says_the_same_whoever_shares_its_batch(model: Decoder) -> None:
    def said(stop: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(3)
        sampled = generate_answers(
            model, PROMPTS, max_new=10, stop_ids=(stop,), generator=generator
        )
        return [one.tokens for one in sampled]

    free = said(-1)
    stop = free[0][2]
    for whole, cut in zip(free, said(stop), strict=True):
        end = whole.index(stop) + 1 if stop in whole else len(whole)
        assert cut == whole[:end]


def test_samples_follow_the_distribution_and_give_its_log_probabilities(model: Decoder) -> None:
    with torch.no_grad():
        logits = model(torch.tensor([[7, 8, 9]]))[0, -1]
    for temperature in (1.0, 2.0):
        generator = torch.Generator().manual_seed(0)
        sampled = generate_answers(
            model,
            [[7, 8, 9]] * 4000,
            max_new=1,
            stop_ids=(-1,),
            temperature=temperature,
            generator=generator,
        )
        seen = torch.bincount(torch.tensor([s.tokens[0] for s in sampled]), minlength=50) / 4000
        wanted = (logits / temperature).softmax(-1)
        assert (seen - wanted).abs().max() < 0.03
        first = sampled[0]
        assert first.logprobs[0] == pytest.approx(
            float(logits.log_softmax(-1)[first.tokens[0]]), abs=1e-4
        )


def test_equal_seeds_give_equal_answers_and_others_do_not(model: Decoder) -> None:
    def said(seed: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(seed)
        return [
            s.tokens
            for s in generate_answers(model, PROMPTS, max_new=8, stop_ids=(0,), generator=generator)
        ]

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_bfloat16_activations_can_sample(model: Decoder) -> None:
    model.compute = torch.bfloat16
    try:
        given = generate_answers(model, PROMPTS, max_new=4, stop_ids=(-1,), temperature=0)
    finally:
        model.compute = torch.float32
    assert [len(one.tokens) for one in given] == [4] * len(PROMPTS)
