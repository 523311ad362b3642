"""Hashed character n-grams of texts as sparse tf-idf rows, features of small text classifiers.

Bytes of the text, two to four in a row, with white space joined and digits alike, counted in
``SLOTS`` slots (the hashing trick, Weinberger et al. 2009), then 1 + ln(count), weighed and brought
to length one (Salton & Buckley 1988). Character n-grams carry words, endings, punctuation and
layout at once.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIZES = (2, 3, 4)
SLOTS = 1 << 15
"""More slots, fewer n-grams that share one, and a larger model."""
MOST_BYTES = 50_000
"""Bytes of one text that are read."""
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""
_SPACE = re.compile(r"\s+")
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True)
class SparseRows:
    """Sparse matrix in compressed rows (CSR)."""

    starts: NDArray[np.int64]
    """[rows + 1] first entry of each row."""
    slots: NDArray[np.int64]
    """[entries] column of each entry."""
    values: NDArray[np.float64]
    """[entries]"""
    width: int
    """Number of columns."""

    @property
    def rows(self) -> NDArray[np.int64]:
        """Row of each entry: [entries]."""
        return np.repeat(np.arange(len(self.starts) - 1), np.diff(self.starts))

    def multiply(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Product with a column vector: [rows]."""
        products = np.append(self.values * weights[self.slots], 0.0)
        sums = np.add.reduceat(products, self.starts[:-1])
        return np.asarray(np.where(np.diff(self.starts) > 0, sums, 0.0), dtype=np.float64)

    def multiply_transposed(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """Product of the transpose with a column vector: [width]."""
        sums = np.bincount(self.slots, self.values * column[self.rows], minlength=self.width)
        return np.asarray(sums, dtype=np.float64)


def count_ngrams(texts: Sequence[str]) -> SparseRows:
    """Counts of the n-grams of each slot in each text: [texts, SLOTS]."""
    starts, slots, values = [0], list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    for text in texts:
        counts = _slot_counts(text)
        occupied = np.flatnonzero(counts)
        slots.append(occupied)
        values.append(counts[occupied])
        starts.append(starts[-1] + len(occupied))
    none = np.empty(0, dtype=np.int64)
    flat = np.concatenate([none, *values]).astype(np.float64)
    return SparseRows(np.array(starts), np.concatenate([none, *slots]), flat, SLOTS)


def _slot_counts(text: str) -> NDArray[np.int64]:
    folded = _DIGIT.sub("0", _SPACE.sub(" ", text[:MOST_BYTES]))
    text_bytes = np.frombuffer(folded.encode(errors="replace")[:MOST_BYTES], dtype=np.uint8)
    counts = np.zeros(SLOTS, dtype=np.int64)
    shift = np.uint64(64 - (SLOTS.bit_length() - 1))  # leaves the top bits: numbers below SLOTS
    for size in SIZES:
        windows = len(text_bytes) - size + 1
        if windows <= 0:
            continue
        keys = np.full(windows, size, dtype=np.uint64)
        for offset in range(size):
            keys = (keys << np.uint64(8)) | text_bytes[offset : offset + windows]
        slots = (keys * _GOLDEN_RATIO) >> shift
        counts += np.bincount(slots.astype(np.int64), minlength=SLOTS)
    return counts


def inverse_document_frequency(counts: SparseRows) -> NDArray[np.float64]:
    """Smoothed inverse document frequency of each slot: [width]."""
    frequency = np.bincount(counts.slots, minlength=counts.width)
    idf = np.log((len(counts.starts)) / (1 + frequency)) + 1
    return np.asarray(idf, dtype=np.float64)


def tfidf_rows(counts: SparseRows, idf: NDArray[np.float64]) -> SparseRows:
    """Rows of length one of damped counts times rarity."""
    values = (1 + np.log(counts.values)) * idf[counts.slots]
    lengths = np.sqrt(np.bincount(counts.rows, values**2, minlength=len(counts.starts) - 1))
    scaled = values / np.maximum(lengths, 1e-12)[counts.rows]
    return SparseRows(counts.starts, counts.slots, scaled, counts.width)
