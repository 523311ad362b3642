from __future__ import annotations

import numpy as np

from serving.engine.batch_sampling import BatchSampler
from serving.engine.sampling import SamplingParams, TokenSampler

LOGITS = np.log(np.array([0.5, 0.3, 0.15, 0.05], dtype=np.float32))


def draws(sampling: SamplingParams, n: int = 4000) -> list[int]:
    samplers, batch = [TokenSampler(sampling)], BatchSampler()
    return [batch.draw(samplers, LOGITS[None])[0] for _ in range(n)]


def test_temperature_zero_is_greedy() -> None:
    assert set(draws(SamplingParams(temperature=0), 20)) == {0}


def test_temperature_one_draws_the_model_s_own_distribution() -> None:
    counts = np.bincount(draws(SamplingParams(temperature=1, seed=1)), minlength=4) / 4000
    assert np.allclose(counts, [0.5, 0.3, 0.15, 0.05], atol=0.03)


def test_a_low_temperature_sharpens() -> None:
    assert np.mean(np.array(draws(SamplingParams(temperature=0.25, seed=1))) == 0) > 0.8


def test_top_p_keeps_the_token_that_crosses_the_threshold_and_no_more() -> None:
    assert set(draws(SamplingParams(temperature=1, top_p=0.6, seed=1))) == {0, 1}
    assert set(draws(SamplingParams(temperature=1, top_p=0.01, seed=1))) == {0}
    assert set(draws(SamplingParams(temperature=1, top_p=1.0, seed=1))) == {0, 1, 2, 3}


def test_equal_seeds_draw_equally_and_none_draws_anew() -> None:
    assert draws(SamplingParams(seed=7), 50) == draws(SamplingParams(seed=7), 50)
    assert draws(SamplingParams(seed=7), 50) != draws(SamplingParams(seed=8), 50)
    assert draws(SamplingParams(), 50) != draws(SamplingParams(), 50)


def test_random_numbers_drawn_ahead_are_those_of_the_seed() -> None:
    sampler, random = TokenSampler(SamplingParams(temperature=1, seed=7)), np.random.default_rng(7)
    shares = [sampler.next_share() for _ in range(200)]
    assert np.allclose(shares, [random.random() for _ in range(200)], rtol=1e-14)
    assert max(shares) < 1


def test_described_log_probabilities_are_the_model_s_own() -> None:
    random = np.random.default_rng(3)
    logits = (random.normal(size=4096) * 5 + 30).astype(np.float32)
    wide = logits.astype(np.float64)
    logprobs = wide - wide.max() - np.log(np.exp(wide - wide.max()).sum())
    described = TokenSampler(SamplingParams(temperature=0.3, top_p=0.1, logprobs=4)).describe(
        logits, 77
    )
    assert described is not None
    assert abs(described.logprob - logprobs[77]) < 1e-6
    places = np.argsort(-logprobs)[:4].tolist()
    assert [token for token, _ in described.top] == places
    assert np.allclose([value for _, value in described.top], logprobs[places], atol=1e-6)
