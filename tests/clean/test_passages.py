"""Long passages are found word for word, with the older document that holds them."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import product
from typing import Any

import pyarrow as pa
import pytest

from components.clean.passages.score import PassagesConfig, score_passages
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.dedup.long_passages import fingerprint_passages


def words(draw: random.Random, count: int) -> list[str]:
    return [f"word{draw.randrange(5000)}" for _ in range(count)]


def scored(corpus: Corpus, work: Workdir, **config: Any) -> dict[str, dict[str, Any]]:
    """URL -> row."""
    rows = read_shards(
        work.artifact_folder(score_passages(PassagesConfig(**config), corpus, work))
    ).to_pylist()
    urls = {row["id"]: row["url"] for row in read_shards(work.artifact_folder(corpus)).to_pylist()}
    for row in rows:
        row["sources"] = [{**source, "id": urls[source["id"]]} for source in row["sources"]]
    return {urls[row["id"]]: row for row in rows}


def test_the_share_and_the_older_document_are_named(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    draw = random.Random(0)
    old, other, own = words(draw, 400), words(draw, 300), words(draw, 100)
    corpus = corpus_of(
        [
            {"text": " ".join(old), "url": "https://a.example/old"},
            {"text": " ".join(other), "url": "https://a.example/other"},
            {
                "text": " ".join(own[:50] + old[100:300] + own[50:]).upper(),
                "url": "https://a.example/new",
                "ordinal": 1,
            },
        ],
        shards=2,
    )
    found = scored(corpus, again())
    assert found["https://a.example/old"]["sources"] == []
    assert found["https://a.example/other"]["sources"] == []
    (source,) = found["https://a.example/new"]["sources"]
    assert source["id"] == "https://a.example/old"
    assert 200 - 2 * 15 <= source["words"] <= 200
    assert source["share"] == pytest.approx(source["words"] / 300, abs=1e-6)


def test_short_quotations_and_repeats_within_a_page_are_no_passages(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    draw = random.Random(1)
    old = words(draw, 200)
    refrain = words(draw, 60)
    texts = [" ".join(old), " ".join(words(draw, 100) + old[:49]), " ".join(refrain * 4)]
    found = scored(corpus_of(texts), again(), min_share=0)
    assert all(row["sources"] == [] for row in found.values())


def test_many_copies_name_the_oldest_first_and_no_more_than_asked(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    draw = random.Random(2)
    passage = words(draw, 120)
    texts = [
        {"text": " ".join(words(draw, 80) + passage), "ordinal": n, "url": f"https://a.example/{n}"}
        for n in range(6)
    ]
    found = scored(corpus_of(texts, shards=3), again(), sources=3)
    assert [len(found[f"https://a.example/{n}"]["sources"]) for n in range(6)] == [0, 1, 2, 3, 3, 3]
    last = {source["id"] for source in found["https://a.example/5"]["sources"]}
    assert last == {f"https://a.example/{n}" for n in range(3)}


@pytest.mark.parametrize("guarantee", [1, 7, 25])
def test_a_shared_run_is_always_found(guarantee: int) -> None:
    draw = random.Random(guarantee)
    for extra, seed in product((0, 3), range(20)):
        shared = words(random.Random(seed), 8 + guarantee - 1 + extra)
        texts = [" ".join(words(draw, 30) + shared + words(draw, 30)) for _ in range(2)]
        keys, _, owner, counts = fingerprint_passages(
            pa.chunked_array([pa.array(texts)]), 8, guarantee
        )
        assert counts.tolist() == [60 + len(shared)] * 2
        assert set(keys[owner == 0].tolist()) & set(keys[owner == 1].tolist())
