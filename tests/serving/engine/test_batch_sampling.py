from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from serving.engine.batch_sampling import BatchSampler
from serving.engine.sampling import Logits, SamplingParams, TokenSampler


def truncated_distribution(
    params: SamplingParams, logits: Logits, rounding: float = 0
) -> NDArray[np.float64]:
    """Probabilities by the book; with rounding, the nuclei are so much larger."""
    if params.temperature <= 0:
        return np.eye(len(logits))[logits.argmax()]
    weights = np.exp((logits - logits.max()).astype(np.float64) / params.temperature)
    weights[weights < params.min_p * (1 - rounding)] = 0
    if 0 < params.top_k < len(logits):
        weights[logits < np.sort(logits)[-params.top_k]] = 0
    if params.top_p < 1:
        likelier = np.array([weights[logits > logit].sum() for logit in logits])
        weights[likelier >= params.top_p * weights.sum() * (1 + rounding)] = 0
    return weights / weights.sum()


PARAMS = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.05, 0.7, 1.0, 2.0]),
    top_p=st.sampled_from([1.0, 1.0, 0.1, 0.5, 0.93, 0.9999]),
    top_k=st.sampled_from([0, 0, 1, 5, 31, 32, 33, 150, 500]),
    min_p=st.sampled_from([0.0, 0.0, 1e-6, 0.013, 0.11, 1.0]),
    seed=st.integers(0, 1000),
)


def random_logits(seed: int, rows: int, kind: str, vocabulary: int) -> Logits:
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
    if kind == "broken":
        logits[random.random(rows) < 0.3] = random.choice([-np.inf, np.inf, np.nan])
        logits[random.random(rows) < 0.2, random.integers(vocabulary)] = np.nan
    return logits


@settings(max_examples=300, deadline=None)
@given(
    params=st.lists(PARAMS, min_size=1, max_size=9),
    seed=st.integers(0, 10_000),
    kind=st.sampled_from(["plain", "ties", "flat", "forbidden", "single", "broken"]),
    vocabulary=st.sampled_from([1, 2, 7, 31, 128, 129, 200, 300]),
)
def test_all_rows_together_draw_what_each_draws_alone(
    params: list[SamplingParams], seed: int, kind: str, vocabulary: int
) -> None:
    batch = BatchSampler()
    together = [TokenSampler(row) for row in params]
    alone = [(TokenSampler(row), BatchSampler()) for row in params]
    for step in range(3):
        logits = random_logits(seed + step, len(params), kind, vocabulary)
        before = logits.copy()
        tokens = batch.draw(together, logits)
        assert np.array_equal(logits, before, equal_nan=True)
        for row, (sampler, single) in enumerate(alone):
            assert single.draw([sampler], logits[row : row + 1]) == [tokens[row]]
            if np.isfinite(logits[row].max()):
                assert truncated_distribution(params[row], logits[row], 1e-5)[tokens[row]] > 0
            else:
                assert tokens[row] == logits[row].argmax()


@pytest.mark.parametrize("vocabulary", [4096, 32_000])
def test_a_seed_draws_the_same_in_any_row_beside_any_others(vocabulary: int) -> None:
    kinds: list[dict[str, Any]] = [
        {},
        {"top_p": 0.9},
        {"min_p": 0.1},
        {"top_k": 40},
        {"top_p": 0.95, "top_k": 50, "min_p": 0.01},
        {"top_p": 0.5, "top_k": 1000},
    ]
    params = [
        SamplingParams(temperature=0.3 + seed / 9, seed=seed, **kinds[seed % 6])
        for seed in range(18)
    ]
    together, alone = [[TokenSampler(row) for row in params] for _ in range(2)]
    batch, single = BatchSampler(), BatchSampler()
    random = np.random.default_rng(4)
    for step in range(12):
        logits = (random.normal(size=(18, vocabulary)) * (1 + step)).astype(np.float32)
        places = random.permutation(18)
        tokens = batch.draw([together[place] for place in places], logits)
        for row, place in enumerate(places):
            assert single.draw([alone[place]], logits[row : row + 1]) == [tokens[row]]


CASES: list[tuple[int, float, dict[str, Any]]] = [
    # (vocabulary, spread of the logits, parameters); chi-square on 16 seeds of 1,500 draws
    (4, 1, {}),
    (7, 1, {"top_p": 0.6}),
    (200, 2, {"temperature": 0.7}),
    (200, 2, {"temperature": 0.7, "top_p": 0.9}),
    (200, 2, {"temperature": 2.0, "top_p": 0.5}),
    (200, 2, {"temperature": 1.3, "top_p": 0.05}),
    (200, 2, {"min_p": 0.1}),
    (200, 2, {"min_p": 0.03, "top_p": 0.7}),
    (200, 2, {"top_k": 10}),
    (200, 2, {"top_k": 150}),
    (200, 0.3, {"top_k": 150, "top_p": 0.6}),
    (200, 2, {"top_k": 20, "top_p": 0.8}),
    (200, 2, {"top_k": 20, "min_p": 0.1}),
    (200, 1, {"top_k": 100, "top_p": 0.8, "min_p": 0.05, "temperature": 1.5}),
    (4096, 3, {"temperature": 0.7, "top_p": 0.9}),
    (4096, 0.2, {"top_p": 0.9}),
]


@pytest.mark.parametrize(("vocabulary", "spread", "kind"), CASES)
def test_draws_follow_the_truncated_distribution(
    vocabulary: int, spread: float, kind: dict[str, Any]
) -> None:
    row = (np.random.default_rng(1).normal(size=vocabulary) * spread).astype(np.float32)
    logits = np.tile(row, (16, 1))
    params = SamplingParams(**{"temperature": 1.0, **kind})
    samplers = [
        TokenSampler(SamplingParams(**{"temperature": 1.0, **kind, "seed": s})) for s in range(16)
    ]
    batch = BatchSampler()
    counts = np.bincount(
        np.concatenate([batch.draw(samplers, logits) for _ in range(1500)]), minlength=vocabulary
    )
    assert_follows(counts, truncated_distribution(params, row))


def test_draws_follow_the_distribution_where_logits_tie() -> None:
    row = np.array([2, 1, 2, 0, 1, 1, 0, -1] + [-3] * 300, dtype=np.float32)
    for kind in ({"top_p": 0.6}, {"top_k": 4}, {"top_k": 2}, {"min_p": 0.2}, {"top_k": 7}):
        params = [SamplingParams(temperature=1, seed=seed, **kind) for seed in range(16)]
        samplers, batch = [TokenSampler(p) for p in params], BatchSampler()
        logits = np.tile(row, (16, 1))
        drawn = np.concatenate([batch.draw(samplers, logits) for _ in range(500)])
        assert_follows(
            np.bincount(drawn, minlength=len(row)), truncated_distribution(params[0], row)
        )


def assert_follows(counts: NDArray[np.intp], probabilities: NDArray[np.float64]) -> None:
    assert not counts[probabilities == 0].any()
    expected = probabilities * counts.sum()
    rare = expected < 8
    observed = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    observed, expected = observed[expected > 0], expected[expected > 0]
    if len(observed) > 1:
        assert chisquare(observed, expected).pvalue > 1e-6


@pytest.mark.parametrize("seed", range(3))
def test_equal_logits_are_all_kept_or_all_left_out(seed: int) -> None:
    logits = np.array([[0, 3, 1, 3, 1, 1, 0, 3]], dtype=np.float32)

    def drawn(**kind: Any) -> set[int]:
        samplers = [TokenSampler(SamplingParams(temperature=1.0, seed=seed, **kind))]
        batch = BatchSampler()
        return {batch.draw(samplers, logits)[0] for _ in range(400)}

    assert drawn(top_k=1) == drawn(top_k=3) == drawn(top_p=0.01) == drawn(min_p=1.0) == {1, 3, 7}
    assert drawn(top_k=4) == drawn(min_p=0.1) == drawn(top_p=0.95) == {1, 2, 3, 4, 5, 7}
    assert drawn() == drawn(top_k=7) == set(range(8))


@pytest.mark.parametrize("vocabulary", [1, 7, 4096, 32_000])
@pytest.mark.parametrize(
    "kind",
    [
        {"temperature": 1.0, "top_p": 1e-12},
        {"temperature": 1.0, "top_p": 0.0},
        {"temperature": 1e-9},
        {"temperature": 1e-45, "top_p": 0.9},
        {"temperature": 1e-45, "top_k": 3},
        {"temperature": 1.0, "min_p": 1.0},
        {"temperature": 5.0, "top_k": 1},
    ],
)
def test_extremes_draw_the_likeliest(vocabulary: int, kind: dict[str, Any]) -> None:
    logits = np.random.default_rng(2).normal(size=(3, vocabulary)).astype(np.float32)
    samplers = [TokenSampler(SamplingParams(seed=seed, **kind)) for seed in range(3)]
    for _ in range(10):
        assert BatchSampler().draw(samplers, logits) == logits.argmax(axis=1).tolist()


@pytest.mark.parametrize("kind", [{}, {"top_p": 0.99}, {"top_k": 250}])
def test_a_huge_temperature_draws_all_alike(kind: dict[str, Any]) -> None:
    logits = np.random.default_rng(2).normal(size=(16, 300)).astype(np.float32)
    samplers = [TokenSampler(SamplingParams(temperature=1e30, seed=s, **kind)) for s in range(16)]
    batch = BatchSampler()
    counts = np.bincount(
        np.concatenate([batch.draw(samplers, logits) for _ in range(600)]), minlength=300
    )
    assert counts.min() > 0
    assert counts.max() < 80  # 32 are expected


def test_one_allowed_token_is_drawn() -> None:
    logits = np.full((6, 4096), -np.inf, dtype=np.float32)
    logits[range(6), [0, 1, 127, 128, 4000, 4095]] = -7
    kinds: list[dict[str, Any]] = [
        {},
        {"top_p": 0.5},
        {"top_k": 5},
        {"top_k": 500},
        {"min_p": 0.2},
        {},
    ]
    samplers = [TokenSampler(SamplingParams(temperature=0.8, **kind)) for kind in kinds]
    assert BatchSampler().draw(samplers, logits) == [0, 1, 127, 128, 4000, 4095]


def test_greedy_rows_and_drawn_rows_keep_their_places() -> None:
    logits = np.full((4, 300), -30, dtype=np.float32)
    logits[range(4), [7, 250, 3, 99]] = 5
    samplers = [TokenSampler(SamplingParams(temperature=t, seed=1)) for t in (0, 0.5, 0, 1)]
    assert BatchSampler().draw(samplers, logits) == [7, 250, 3, 99]


@pytest.mark.parametrize("kind", [{}, {"top_p": 0.9}, {"top_k": 5}, {"min_p": 0.1}])
@pytest.mark.parametrize("value", [-np.inf, np.inf, np.nan])
def test_logits_that_allow_nothing_end_no_step(value: float, kind: dict[str, Any]) -> None:
    samplers = [TokenSampler(SamplingParams(temperature=1.0, seed=n, **kind)) for n in range(2)]
    rows = np.stack([np.full(200, value), np.arange(200.0)]).astype(np.float32)
    tokens = BatchSampler().draw(samplers, rows)
    assert tokens[0] == 0
    assert tokens[1] > 180


def test_a_sampler_goes_from_one_vocabulary_to_another() -> None:
    batch, samplers = BatchSampler(), [TokenSampler(SamplingParams(temperature=0.01, seed=1))]
    for vocabulary in (300, 129, 5, 4096, 128):
        logits = np.random.default_rng(2).normal(size=(1, vocabulary)).astype(np.float32) * 9
        assert batch.draw(samplers, logits) == [logits.argmax()]
