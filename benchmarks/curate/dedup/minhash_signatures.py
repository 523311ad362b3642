"""Speed of MinHash signatures beside datasketch, rensa and datatrove, and bias of the estimates."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.median_seconds import median_seconds
from benchmarks.curate.sample_documents import DOCUMENT_WORDS, random_documents
from components.text.dedup.shingles import jaccard_similarities, minhash_signatures, shingle_sets

PERMUTATIONS, SEED = 128, 1
NAME = f"MinHash signatures, {PERMUTATIONS} permutations, {DOCUMENT_WORDS - 4} shingles, from text"
UNIT, TARGET, PAIRS = "/s/core", 80_000.0, 1000
_DOCUMENTS, _PEER_DOCUMENTS = 5000, 500


def measure_signatures(setting: BenchSetting) -> list[BenchFigure]:
    """Documents a second, and the mean error of Jaccard estimates in standard errors."""
    texts = random_documents(_DOCUMENTS, seed=1, duplicate_share=0)
    column = pa.chunked_array([pa.array(texts)])
    seconds_per_pass = median_seconds(
        lambda: minhash_signatures(column, PERMUTATIONS, SEED), setting.repeats
    )
    rate = len(texts) / seconds_per_pass
    sample = setting.scratch / "documents.json"
    sample.write_text(json.dumps(texts[:_PEER_DOCUMENTS]))
    figures = [BenchFigure.against_target(NAME, rate, UNIT, TARGET, better="higher")]
    for peer in ("datasketch", "rensa", "datatrove"):
        peer_rate = setting.run_peer("minhash_peers", peer, peer, str(sample), str(PERMUTATIONS))
        figures.append(
            BenchFigure.beside_peer(
                NAME, rate, UNIT, peer, peer_rate, must_win=True, better="higher"
            )
        )
    return [*figures, _measure_bias()]


def _measure_bias() -> BenchFigure:
    draw = np.random.default_rng(2)
    texts = random_documents(PAIRS, seed=3, duplicate_share=0)
    edited_texts = []
    for text in texts:
        words = np.array(text.split(), dtype=object)
        words[draw.choice(DOCUMENT_WORDS, int(draw.integers(1, 60)), replace=False)] = "changed"
        edited_texts.append(" ".join(words))
    column = pa.chunked_array([pa.array(texts + edited_texts)])
    signatures, _ = minhash_signatures(column, PERMUTATIONS, SEED)
    estimates = (signatures[:PAIRS] == signatures[PAIRS:]).mean(axis=1)
    sets, bounds = shingle_sets(column, np.arange(2 * PAIRS))
    error = estimates - jaccard_similarities(
        sets, bounds, np.arange(PAIRS), np.arange(PAIRS, 2 * PAIRS)
    )
    standard_error = error.std(ddof=1) / np.sqrt(PAIRS)
    name = f"bias of the estimates over {PAIRS:,} pairs, in standard errors"
    note = f"mean error {error.mean():+.5f}"
    return BenchFigure.against_target(name, abs(error.mean()) / standard_error, "", 3.0, note=note)
