from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from serving.engine.batch_sampling import BatchSampler
from serving.engine.sampling import SamplingParams, TokenSampler


def draw_sorted(params: SamplingParams, logits: NDArray[np.float32], share: float) -> int:
    """The rule by the book: all weights in order, equal ones in the vocabulary's."""
    if params.temperature <= 0:
        return int(logits.argmax())
    weights = np.exp((logits - logits.max()).astype(np.float64) / params.temperature)
    order = np.argsort(-weights, kind="stable")
    ranked = weights[order]
    ranked = ranked[ranked >= params.min_p]
    ranked = ranked[: params.top_k] if params.top_k else ranked
    cumulated = ranked.cumsum()
    if params.top_p < 1:
        kept = int(np.searchsorted(cumulated, params.top_p * cumulated[-1])) + 1
        cumulated = cumulated[:kept]
    return int(order[np.searchsorted(cumulated, share * cumulated[-1], side="right")])


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.05, 0.7, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 1.0, 0.1, 0.5, 0.93, 0.9999]),
    top_k=st.sampled_from([0, 0, 1, 5, 31, 32, 33, 500]),
    min_p=st.sampled_from([0.0, 0.0, 1e-6, 0.013, 0.11, 1.0]),
    seed=st.integers(0, 1000),
)


def random_logits(seed: int, rows: int, kind: str, vocabulary: int) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    spread = random.choice([0.01, 1, 4, 40])
    logits = (random.normal(size=(rows, vocabulary)) * spread).astype(np.float32)
    if kind == "ties":
        logits = np.round(logits)
    if kind == "flat":
        logits[:] = 0.5
    if kind == "forbidden":
        logits[random.random(logits.shape) < 0.95] = -np.inf
    if kind == "single":
        logits[:] = -np.inf
    if kind in ("single", "forbidden"):
        logits[:, random.integers(vocabulary)] = 1.5
    return logits


@settings(max_examples=300, deadline=None)
@given(
    params=st.lists(PARAMS, min_size=1, max_size=9),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["plain", "ties", "flat", "forbidden", "single"]),
    vocabulary=st.sampled_from([2, 31, 32, 33, 200]),
)
def test_all_rows_together_draw_what_each_draws_alone(
    params: list[SamplingParams], seed: int, kind: str, vocabulary: int
) -> None:
    batch = BatchSampler(candidates=32)
    together = [TokenSampler(row) for row in params]
    alone = [TokenSampler(row) for row in params]
    random = [np.random.default_rng(row.seed) for row in params]
    for step in range(3):
        logits = random_logits(seed + step, len(params), kind, vocabulary)
        before = logits.copy()
        tokens = batch.draw(together, logits)
        assert np.array_equal(logits, before)
        assert tokens == [s.draw(row) for s, row in zip(alone, logits, strict=True)]
        for token, row, own, logit in zip(tokens, params, random, logits, strict=True):
            share = own.random() if row.temperature > 0 else 0.0
            assert token == draw_sorted(row, logit, share)


def test_a_seed_draws_the_same_whatever_the_other_rows_are() -> None:
    logits = random_logits(3, 16, "plain", 4096)
    params = SamplingParams(temperature=0.7, top_p=0.9, seed=4)
    alone, beside = TokenSampler(params), TokenSampler(params)
    others = [TokenSampler(SamplingParams(temperature=1.3, min_p=0.01)) for _ in range(15)]
    one, many = BatchSampler(), BatchSampler()
    for _ in range(50):
        token = many.draw([*others[:7], beside, *others[7:]], logits)[7]
        assert one.draw([alone], logits[7:8]) == [token]


def test_greedy_rows_and_drawn_rows_keep_their_places() -> None:
    logits = np.full((4, 300), -30, dtype=np.float32)
    logits[range(4), [7, 250, 3, 99]] = 5
    samplers = [TokenSampler(SamplingParams(temperature=t, seed=1)) for t in (0, 0.5, 0, 1)]
    assert BatchSampler().draw(samplers, logits) == [7, 250, 3, 99]


@pytest.mark.parametrize("logits", [np.full(200, -np.inf), np.full(200, np.nan)])
def test_logits_that_allow_nothing_end_no_step(logits: NDArray[np.float64]) -> None:
    samplers = [TokenSampler(SamplingParams(temperature=1.0, seed=n)) for n in range(2)]
    rows = np.stack([logits, np.arange(200.0)]).astype(np.float32)
    tokens = BatchSampler().draw(samplers, rows)
    assert 0 <= tokens[0] < 200
    assert tokens[1] > 180
