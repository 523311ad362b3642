"""Word 5-shingles as 64-bit hashes, their MinHash signatures and exact Jaccard similarities.

A shingle is five words in a row: runs of letters, digits and underscores of the case folded text.
Its hash mixes 64-bit hashes of its words, so two different shingles share one with a probability
of 2**-64: Jaccard over hashes is exact in practice. Signatures use datasketch's permutations
(Broder 1997, "On the resemblance and containment of documents"), whose scheme must be kept with
them.
"""

from __future__ import annotations

import functools

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from components.text.arrow_buffers import string_buffers

SCHEME = "affine32"
"""datasketch's family of hash functions a * h + b modulo 2**32; signatures of another differ."""
_ROLL_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Base of the polynomial hash modulo 2**64: 2**64 over the golden ratio, odd."""
_MIX = ((33, np.uint64(0xFF51AFD7ED558CCD)), (33, np.uint64(0xC4CEB9FE1A85EC53)))
"""Shifts and multipliers of MurmurHash3's 64-bit finalizer (fmix64)."""

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


def minhash_signatures(
    texts: pa.ChunkedArray, permutations: int, seed: int
) -> tuple[NDArray[np.uint32], Positions]:
    """(MinHash values [documents, permutations], shingles of each, repeats counted).

    A document of fewer than five words has no shingle; its signature says nothing.

    Args:
        texts: documents, without nulls.
        permutations: values of a signature.
        seed: draws the permutations.
    """
    from components.text.kernels import shingle_hashes as kernel

    data, bounds = string_buffers(texts)
    signed = np.empty((len(bounds) - 1, permutations), dtype=np.uint32)
    multipliers, offsets = _permutations(permutations, seed)
    counts = kernel.fill_signatures(
        data, bounds, kernel.word_tables(), multipliers, offsets, signed
    )
    return signed, counts


def band_keys(signed: NDArray[np.uint32], bands: int, rows: int) -> Hashes:
    """LSH keys [documents, bands]: two documents share one where all values of a band agree.

    Args:
        signed: [documents, permutations] signatures.
        bands: bands to cut a signature into.
        rows: values of a band; bands * rows are at most the permutations.
    """
    from components.text.kernels import shingle_hashes as kernel

    return kernel.hash_bands(signed, bands, rows)


def shingle_sets(texts: pa.ChunkedArray, chosen: Positions) -> tuple[Hashes, Positions]:
    """(distinct shingles, sorted, of the ``chosen`` rows one after another; their bounds)."""
    from components.text.kernels import shingle_hashes as kernel

    data, bounds = string_buffers(texts)
    return kernel.distinct_shingles(data, bounds, chosen, kernel.word_tables())


def jaccard_similarities(
    sets: Hashes, bounds: Positions, lefts: Positions, rights: Positions
) -> NDArray[np.float64]:
    """Exact Jaccard similarity ``|A ∩ B| / |A ∪ B|`` of pairs of sets; 0 where both are empty.

    Args:
        sets: sets of ``shingle_sets``.
        bounds: bounds of ``shingle_sets``.
        lefts: [pairs] first set of each pair.
        rights: [pairs] second set of each pair.
    """
    from components.text.kernels import shingle_hashes as kernel

    return kernel.jaccard_of_sorted_sets(sets, bounds, lefts, rights)


@functools.cache
def _permutations(count: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    from datasketch import MinHash

    multipliers, offsets = MinHash(num_perm=count, seed=seed, scheme=SCHEME).permutations
    return np.ascontiguousarray(multipliers), np.ascontiguousarray(offsets)


def roll_hashes(hashes: Hashes, size: int) -> Hashes:
    """Hash of every ``size`` neighbours in a row (multiplication wraps: it is modulo 2**64)."""
    count = len(hashes) - size + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    total = np.zeros(count, dtype=np.uint64)
    for offset in range(size):
        total = total * _ROLL_BASE + hashes[offset : offset + count]
    for shift, factor in _MIX:
        total = (total ^ (total >> np.uint64(shift))) * factor
    mixed: Hashes = total ^ (total >> np.uint64(33))
    return mixed
