"""Candidate pairs of documents from the buckets of an LSH band (equal band keys)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


@compile_kernel
def pairs_of_buckets(keys: Hashes, order: Positions, max_centres: int) -> Hashes:
    """``left << 32 | right`` (left < right) of documents with equal keys.

    Args:
        keys: [documents] key of each document.
        order: stable sort of ``keys``: equal keys stay in their order.
        max_centres: members of a bucket, the first ones, that all others are paired with; it bounds
            the pairs of a bucket of n documents by ``max_centres`` * n instead of n² / 2.
    """
    pairs = np.empty(_count(keys, order, max_centres), np.uint64)
    at = start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        for left in range(start, min(start + max_centres, stop)):
            for right in range(left + 1, stop):
                pairs[at] = np.uint64(order[left]) << np.uint64(32) | np.uint64(order[right])
                at += 1
        start = stop
    return pairs


@compile_kernel
def _count(keys: Hashes, order: Positions, max_centres: int) -> int:
    count = start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        size = stop - start
        centre = min(max_centres, size)
        count += centre * size - centre * (centre + 1) // 2
        start = stop
    return count
