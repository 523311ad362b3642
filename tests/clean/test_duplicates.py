"""Planted near duplicates are found; what is found is exact; nothing depends on the shards."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pytest

from components.clean.duplicates.candidate_pairs import find_candidate_pairs, unpack_pairs
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.core.config.stage_config import overlay_config
from components.core.errors import ConfigError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir

VOCABULARY = [f"word{n}" for n in range(3000)]


def page(draw: random.Random, words: int = 300) -> list[str]:
    return [draw.choice(VOCABULARY) for _ in range(words)]


def edited(draw: random.Random, words: list[str], changes: int) -> list[str]:
    copy = list(words)
    for at in draw.sample(range(len(words)), changes):
        copy[at] = draw.choice(VOCABULARY)
    return copy


def plain_jaccard(left: str, right: str) -> float:
    sets = [
        {tuple(words[i : i + 5]) for i in range(len(words) - 4)}
        for words in (left.split(), right.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def planted(seed: int = 3) -> list[str]:
    draw = random.Random(seed)
    texts: list[str] = []
    for _ in range(40):
        words = page(draw)
        texts.append(" ".join(words))
        texts.extend(" ".join(edited(draw, words, draw.randint(1, 14))) for _ in range(2))
    return texts


def test_pairs_are_those_of_an_exact_comparison(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    texts = planted()
    corpus = corpus_of(texts, shards=3)
    scores = score_duplicates(DuplicatesConfig(), corpus, work)
    text_of = {
        row["id"]: row["text"] for row in read_shards(work.artifact_folder(corpus)).to_pylist()
    }
    found = {
        frozenset((row["id"], partner["id"])): partner["similarity"]
        for row in read_shards(work.artifact_folder(scores)).to_pylist()
        for partner in row["partners"]
    }
    exact = {
        frozenset(pair): plain_jaccard(text_of[pair[0]], text_of[pair[1]])
        for pair in combinations(text_of, 2)
    }
    assert all(found[pair] == pytest.approx(exact[pair], abs=1e-5) for pair in found)
    assert all(similarity >= 0.7 for similarity in found.values())  # precision 1
    near = [pair for pair, similarity in exact.items() if similarity >= 0.8]
    assert len(near) > 30
    assert sum(pair in found for pair in near) / len(near) >= 0.99
    assert read_shards(work.artifact_folder(scores), ["id"]).equals(
        read_shards(work.artifact_folder(corpus), ["id"])
    )


def test_exact_groups_are_named_by_their_first(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    same = "The very same words,\n  in the very same order."
    corpus = corpus_of(
        [
            {"text": same, "ordinal": 1},
            {
                "text": same.upper().replace("\n", " "),
                "ordinal": 0,
                "url": "https://docs.example/a",
            },
            {"text": same + " Nearly.", "ordinal": 0},
        ]
    )
    scores = score_duplicates(DuplicatesConfig(), corpus, work)
    rows = {row["id"]: row for row in read_shards(work.artifact_folder(scores)).to_pylist()}
    urls = {row["url"]: row["id"] for row in read_shards(work.artifact_folder(corpus)).to_pylist()}
    first = urls["https://docs.example/a"]
    assert rows[first]["exact_group"] == first
    assert rows[urls["https://docs.example/0000"]]["exact_group"] == first
    assert rows[urls["https://docs.example/0002"]]["exact_group"] != first
    assert scores.stats["exact_copies"] == 1


def test_short_texts_do_not_collide(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    scores = score_duplicates(
        DuplicatesConfig(), corpus_of(["one two", "three", "", "four five six seven", "!!!"]), work
    )
    rows = read_shards(work.artifact_folder(scores)).to_pylist()
    assert all(row["partners"] == [] and row["exact_group"] == row["id"] for row in rows)


def test_members_of_a_group_have_its_partners(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    draw = random.Random(1)
    words = page(draw)
    twin = " ".join(edited(draw, words, 2))
    corpus = corpus_of([" ".join(words), " ".join(words).upper(), twin])
    rows = read_shards(
        work.artifact_folder(score_duplicates(DuplicatesConfig(), corpus, work))
    ).to_pylist()
    assert sorted(len(row["partners"]) for row in rows) == [1, 1, 1]
    assert len({row["exact_group"] for row in rows}) == 2


def test_one_shard_or_many_find_the_same(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    texts = planted(7)[:60]
    found = []
    for shards in (1, 5, 5):
        work = again()
        scores = score_duplicates(DuplicatesConfig(), corpus_of(texts, shards=shards), work)
        rows = read_shards(work.artifact_folder(scores)).to_pylist()
        found.append((sorted(rows, key=lambda row: row["id"]), scores.digest))
    assert found[0][0] == found[1][0]
    assert found[1][1] == found[2][1]


def test_a_large_bucket_costs_no_square() -> None:
    pairs = find_candidate_pairs(np.zeros((1000, 1), dtype=np.uint64), max_bucket=8)
    assert len(pairs) == sum(999 - first for first in range(8))
    assert set(unpack_pairs(pairs)[0].tolist()) == set(range(8))


def test_candidates_share_a_band_and_are_named_once() -> None:
    keys = np.array([[1, 5], [2, 6], [1, 5], [3, 6], [1, 7]], dtype=np.uint64)
    left, right = unpack_pairs(find_candidate_pairs(keys, max_bucket=64))
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == [(0, 2), (0, 4), (1, 3), (2, 4)]


def test_bands_must_fit_the_permutations() -> None:
    with pytest.raises(ConfigError, match="20 bands of 6 rows need 120 permutations"):
        overlay_config(DuplicatesConfig(), {"permutations": 64})
