"""Program that compiles and caches every kernel, so that the first run need not.

Run it with ``python -m`` after an install. The kernels are called as the stages call them, since
machine code is cached for the argument types it met.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from components.text.dedup.long_passages import fingerprint_passages
from components.text.dedup.shingles import (
    band_keys,
    jaccard_similarities,
    minhash_signatures,
    shingle_sets,
)
from components.text.document_statistics import document_statistics
from components.text.kernels.bucket_pairs import pairs_of_buckets
from components.text.kernels.passage_fingerprints import count_covered_words, match_older_documents
from components.text.kernels.shared_runs import find_windows, heaviest_in_order, locate_words


def main() -> None:
    """Call every kernel on two short texts: seconds where nothing is cached yet."""
    texts = pa.chunked_array([pa.array(["one two three four five six seven eight nine"] * 2)])
    document_statistics(texts, short_line=30)
    signed, _ = minhash_signatures(texts, permutations=128, seed=1)
    keys = band_keys(signed, bands=20, rows=6)
    column = np.ascontiguousarray(keys[:, 0])
    pairs_of_buckets(column, np.argsort(column, kind="stable"), 64)
    sets, bounds = shingle_sets(texts, np.arange(2))
    jaccard_similarities(sets, bounds, np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.int64))
    prints, at, owner, _ = fingerprint_passages(texts, length=8, guarantee=1)
    found, _ = match_older_documents(prints, owner, np.lexsort((owner, prints)), 8)
    count_covered_words(at[found], np.zeros(len(found), dtype=np.int64), 1, 8)
    hits, words = np.zeros(1, dtype=np.int64), np.arange(1, 4)
    starts, weights = np.array([0, 3]), np.ones(4)
    find_windows(hits, hits, hits, hits, words, starts, weights, np.array([9]), 3)
    heaviest_in_order(locate_words(words, words, 3), weights[words])


if __name__ == "__main__":
    main()
