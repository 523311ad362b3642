"""Shingles are those of plain Python for any text; signatures are datasketch's own."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.text.dedup.shingles import (
    SCHEME,
    band_keys,
    jaccard_similarities,
    minhash_signatures,
    shingle_sets,
)
from components.text.word_splitting import split_words

WORDS = ["a", "B", "straße", "STRASSE", "ῼ", "İstanbul", "ﬃ", "x_1", "漢字", "٣", "don't", "é", "K"]
SPACES = [" ", "\n", ". ", "—", "\u0301", "\U0001f600", "\x00", "-"]
TEXTS = st.lists(st.sampled_from(WORDS + SPACES * 2), max_size=40).map("".join) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=60
)


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, type=pa.string())])


def similarity(left: str, right: str) -> float:
    sets, bounds = shingle_sets(column([left, right]), np.arange(2))
    return float(jaccard_similarities(sets, bounds, np.array([0]), np.array([1]))[0])


def plain(text: str) -> set[tuple[str, ...]]:
    found = split_words(text)
    return {tuple(found[i : i + 5]) for i in range(len(found) - 4)}


@settings(deadline=None)  # the kernel is compiled in the first example
@given(TEXTS, TEXTS)
@example("one two three four five", "ONE, two; three -- four\nfive")
@example("ſtrasse ῼ ΐ a b c d", "STRASSE ωι ΐ a b c d")
def test_similarity_is_that_of_plain_sets(left: str, right: str) -> None:
    ours, theirs = plain(left), plain(right)
    union = len(ours | theirs)
    assert similarity(left, right) == pytest.approx(len(ours & theirs) / union if union else 0)


def page(draw: random.Random, count: int) -> list[str]:
    return [f"word{draw.randrange(3000)}" for _ in range(count)]


def edited(draw: random.Random, page: list[str], changes: int) -> list[str]:
    at = set(draw.sample(range(len(page)), changes))
    return [f"other{i}" if i in at else word for i, word in enumerate(page)]


def test_signatures_are_datasketchs_own() -> None:
    from datasketch import MinHash

    text = " ".join(page(random.Random(0), 600))
    signed, counts = minhash_signatures(column([text, "too few words"]), 128, seed=1)
    found, _ = shingle_sets(column([text]), np.array([0]))
    reference = MinHash(num_perm=128, seed=1, hashfunc=int, scheme=SCHEME)
    reference.update_batch([int(value) >> 32 for value in found])
    assert signed[0].tolist() == reference.hashvalues.tolist()
    assert counts.tolist() == [596, 0]


def test_estimates_are_unbiased() -> None:
    draw = random.Random(1)
    pages = [page(draw, 200) for _ in range(300)]
    texts = [" ".join(p) for p in pages]
    near_duplicates = [" ".join(edited(draw, p, draw.randint(1, 30))) for p in pages]
    signed, _ = minhash_signatures(column(texts + near_duplicates), 128, seed=1)
    estimates = (signed[:300] == signed[300:]).mean(axis=1)
    sets, bounds = shingle_sets(column(texts + near_duplicates), np.arange(600))
    exact = jaccard_similarities(sets, bounds, np.arange(300), np.arange(300, 600))
    error = estimates - exact
    assert abs(error.mean()) < 3 * error.std() / np.sqrt(len(error))
    assert error.std() == pytest.approx(np.sqrt(exact * (1 - exact) / 128).mean(), rel=0.3)


def test_a_band_key_is_shared_where_all_its_rows_agree() -> None:
    signed = np.arange(12, dtype=np.uint32).reshape(1, 12).repeat(3, axis=0)
    signed[1, 3] += 1
    signed[2, 11] += 1
    keys = band_keys(signed, bands=3, rows=4)
    assert (keys == keys[0]).tolist() == [[True] * 3, [False, True, True], [True, True, False]]
    assert len(set(keys[0].tolist())) == 3
