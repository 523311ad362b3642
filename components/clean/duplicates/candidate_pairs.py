"""Near-duplicate pairs: candidates by banding, each verified by its exact Jaccard similarity.

Banding: Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, chapter 3.4. Memory is bounded:
16 bytes a candidate pair, and the shingles of ``_DOCUMENTS_AT_ONCE`` documents; those of all
candidates lie in one file.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from components.core.store.shards import read_shard, shard_paths
from components.text.dedup.shingles import jaccard_similarities, shingle_sets

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]
_DOCUMENTS_AT_ONCE = 1 << 17
"""Bounds the memory of shingles that are read together."""
_LOW_BITS = np.uint64(0xFFFFFFFF)


def find_candidate_pairs(keys: Hashes, max_bucket: int) -> Hashes:
    """Pairs that share a band, each once, sorted: ``left << 32 | right``, rows of ``keys``.

    A bucket is a run of equal keys in a sorted column. Each member is paired with the first
    ``max_bucket`` members only, so that a thousand pages from one template cost a thousand times
    that many comparisons; ``select`` keeps the first of such a bucket anyway.
    """
    from components.text.kernels.bucket_pairs import pairs_of_buckets

    pairs = np.empty(0, dtype=np.uint64)
    for band in range(keys.shape[1]):
        column = np.ascontiguousarray(keys[:, band])
        order = np.argsort(column, kind="stable")
        pairs = np.union1d(pairs, pairs_of_buckets(column, order, max_bucket))
    return pairs


def unpack_pairs(pairs: Hashes) -> tuple[Positions, Positions]:
    """(left, right) of packed pairs."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & _LOW_BITS).astype(np.int64)


class ShingleFile:
    """The distinct shingles of chosen documents, in one file that is read a few at a time."""

    def __init__(self, path: Path, corpus: Path, shard: Positions, row: Positions) -> None:
        """Write those of the documents that lie in ``shard`` at ``row``; they are numbered so."""
        self._path = path
        self._starts = np.zeros(len(shard), dtype=np.int64)
        self._sizes = np.zeros(len(shard), dtype=np.int64)
        written = 0
        with path.open("wb") as file:
            for index, source in enumerate(shard_paths(corpus)):
                in_shard = np.flatnonzero(shard == index)
                if not len(in_shard):
                    continue
                texts = read_shard(source, ["text"])["text"]
                for part in np.array_split(in_shard, len(in_shard) // _DOCUMENTS_AT_ONCE + 1):
                    sets, bounds = shingle_sets(texts, row[part])
                    self._starts[part] = written + bounds[:-1]
                    self._sizes[part] = np.diff(bounds)
                    file.write(sets.tobytes())
                    written += len(sets)

    def read_sets(self, documents: Positions) -> tuple[Hashes, Positions]:
        """(shingles one document after another, their bounds)."""
        bounds = np.concatenate(([0], np.cumsum(self._sizes[documents])))
        sets = np.empty(bounds[-1], dtype=np.uint64)
        with self._path.open("rb") as file:
            for document in np.argsort(self._starts[documents]).tolist():
                part = sets[bounds[document] : bounds[document + 1]]
                file.seek(8 * int(self._starts[documents[document]]))
                read = file.readinto(part.data)
                assert read == part.nbytes, "the file of shingles is our own and whole"
        return sets, bounds


def verify_pairs(
    pairs: Hashes, sets: ShingleFile, min_similarity: float
) -> Iterator[tuple[Hashes, NDArray[np.float64]]]:
    """(pairs, exact Jaccard) of pairs that are alike enough, a few at a time.

    Args:
        pairs: Packed candidates, numbered as in ``sets``.
        sets: Shingles of the documents.
        min_similarity: Jaccard similarity from which a pair is yielded.
    """
    for part in np.array_split(pairs, 2 * len(pairs) // _DOCUMENTS_AT_ONCE + 1):
        left, right = unpack_pairs(part)
        documents, where = np.unique(np.concatenate((left, right)), return_inverse=True)
        values, bounds = sets.read_sets(documents)
        similar = jaccard_similarities(values, bounds, where[: len(part)], where[len(part) :])
        alike = similar >= min_similarity
        yield part[alike], np.round(similar[alike], 6)
