"""Precision and recall of near duplicates, against the exact Jaccard similarity of all pairs."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.sample_documents import random_documents, write_corpus_shard
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shards
from components.core.store.workdir import Workdir
from components.text.dedup.shingles import shingle_sets

SIMILARITY, COUNT = 0.8, 10_000
NAME = f"near duplicates at Jaccard {SIMILARITY} among {COUNT:,} documents"
PEER = "datasketch's LSH, which verifies none"
Pairs = set[tuple[int, int]]


def measure_duplicates(setting: BenchSetting) -> list[BenchFigure]:
    """Precision and recall of pairs: ours, and those of datasketch's LSH without verification."""
    texts = random_documents(COUNT, seed=5, duplicate_share=0.3)
    true_pairs = _true_pairs(texts)
    our_pairs = _our_pairs(setting, texts)
    sample = setting.scratch / "documents.json"
    sample.write_text(json.dumps(texts))
    precision, recall = (
        _shared_fraction(our_pairs, true_pairs, our_pairs),
        _shared_fraction(our_pairs, true_pairs, true_pairs),
    )
    figures = [
        BenchFigure.against_target(f"{NAME}: precision", precision, "", 0.99, better="higher"),
        BenchFigure.against_target(f"{NAME}: recall", recall, "", 0.95, better="higher"),
    ]
    peer_output = setting.run_peer("lsh_pairs", "datasketch", str(sample), str(SIMILARITY))
    if peer_output is not None:
        peer_pairs = {(left, right) for left, right in peer_output}
        for name, ours, peer in (
            ("precision", precision, _shared_fraction(peer_pairs, true_pairs, peer_pairs)),
            ("recall", recall, _shared_fraction(peer_pairs, true_pairs, true_pairs)),
        ):
            figures.append(
                BenchFigure.beside_peer(
                    f"{NAME}: {name}", ours, "", PEER, peer, False, better="higher"
                )
            )
    return figures


def _shared_fraction(pairs: Pairs, true_pairs: Pairs, denominator: Pairs) -> float:
    return len(pairs & true_pairs) / len(denominator)


def _our_pairs(setting: BenchSetting, texts: list[str]) -> Pairs:
    work = Workdir.temporary(setting.scratch)
    write_corpus_shard(work.folder, texts, first=0, shard=0)
    corpus = work.seal(Corpus)
    scoring = Workdir.temporary(setting.scratch)
    scores = score_duplicates(DuplicatesConfig(min_similarity=SIMILARITY), corpus, scoring)
    table = read_shards(scoring.artifact_folder(scores)).to_pylist()
    members: dict[str, list[int]] = {}
    for row in table:
        members.setdefault(row["exact_group"], []).append(int(row["id"], 16))
    pairs: Pairs = set()
    for row in table:
        number = int(row["id"], 16)
        neighbours = [m for partner in row["partners"] for m in members[partner["id"]]]
        pairs |= {
            (number, other) for other in neighbours + members[row["exact_group"]] if number < other
        }
    return pairs


def _true_pairs(texts: list[str]) -> Pairs:
    """Pairs at or above ``SIMILARITY``, counted exactly over every pair that shares a shingle."""
    column = pa.chunked_array([pa.array(texts)])
    sets, bounds = shingle_sets(column, np.arange(len(texts)))
    sizes = np.diff(bounds)
    owners = np.repeat(np.arange(len(texts)), sizes)
    order = np.argsort(sets, kind="stable")
    values, owners = sets[order], owners[order]
    edges = np.flatnonzero(np.diff(values)) + 1
    shared: list[NDArray[np.int64]] = []
    for group in np.split(owners, edges):
        if len(group) > 1:
            left, right = np.triu_indices(len(group), 1)
            shared.append(group[left] * len(texts) + group[right])
    pairs, common = np.unique(np.concatenate(shared), return_counts=True)
    left, right = pairs // len(texts), pairs % len(texts)
    similar = common / (sizes[left] + sizes[right] - common) >= SIMILARITY
    return set(zip(left[similar].tolist(), right[similar].tolist(), strict=True))
