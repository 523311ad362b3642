"""Repetition statistics of many documents at once: n-gram fractions over a whole shard.

Words of all documents lie in one array; an n-gram is a rolling hash of word hashes, and n-grams
that are equal within a document are found by one sort.

Definitions: Gopher (Rae et al. 2021, arXiv:2112.11446, table A1) as datatrove implements it: of
duplicate n-grams, the first occurrence counts as original, and a word covered twice counts once.
Characters are those of words; white space counts for neither side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from components.text.shingles import rolled

Fractions = NDArray[np.float64]
TOP = (2, 3, 4)
DUPLICATE = (5, 6, 7, 8, 9, 10)


def ngram_fractions(documents: Sequence[Sequence[str]]) -> dict[str, Fractions]:
    """``top_{n}gram`` and ``duplicate_{n}gram`` character fractions, one value a document."""
    sizes = np.array([len(document) for document in documents], dtype=np.int64)
    owner = np.repeat(np.arange(len(documents)), sizes)
    hashes, lengths = _words(documents, int(sizes.sum()))
    total = _sums(owner, lengths, len(documents))
    starts = np.concatenate(([0], np.cumsum(lengths)))
    found: dict[str, Fractions] = {}
    for size in (*TOP, *DUPLICATE):
        keys, at = _ngrams(hashes, owner, size)
        if size in TOP:
            characters = _top(keys, at, owner, starts, size, len(documents))
            found[f"top_{size}gram"] = _share(characters, total)
        else:
            characters = _repeated(keys, at, owner, lengths, size, len(documents))
            found[f"duplicate_{size}gram"] = _share(characters, total)
    return found


def _words(
    documents: Sequence[Sequence[str]], count: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hash and length in characters of every word."""
    known: dict[str, int] = {}
    hashes = np.empty(count, dtype=np.uint64)
    lengths = np.empty(count, dtype=np.int64)
    at = 0
    for document in documents:
        for word in document:
            value = known.get(word)
            if value is None:
                digest = hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8)
                value = known[word] = int.from_bytes(digest.digest(), "little")
            hashes[at] = value
            lengths[at] = len(word)
            at += 1
    return hashes, lengths


def _ngrams(
    hashes: NDArray[np.uint64], owner: NDArray[np.int64], size: int
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """(key, first word) of n-grams inside one document; the key also names the document."""
    keys = rolled(hashes, size)
    if not len(keys):
        return keys, np.empty(0, dtype=np.int64)
    inside = owner[: len(keys)] == owner[size - 1 :]
    at = np.flatnonzero(inside)
    keys = keys[at] + owner[at].astype(np.uint64) * np.uint64(0xD6E8FEB86659FD93)
    return keys, at


def _top(
    keys: NDArray[np.uint64],
    at: NDArray[np.int64],
    owner: NDArray[np.int64],
    starts: NDArray[np.int64],
    size: int,
    documents: int,
) -> Fractions:
    """Characters in each document's most frequent n-gram; 0 where none occurs twice."""
    characters = np.zeros(documents)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    again = counts > 1
    first, counts = at[first[again]], counts[again]
    weights = counts * (starts[first + size] - starts[first])
    order = np.lexsort((weights, counts))  # of equally frequent ones the longest comes last
    characters[owner[first[order]]] = weights[order]
    return characters


def _repeated(
    keys: NDArray[np.uint64],
    at: NDArray[np.int64],
    owner: NDArray[np.int64],
    lengths: NDArray[np.int64],
    size: int,
    documents: int,
) -> Fractions:
    """Characters of words inside n-grams that occurred earlier in the document."""
    _, first = np.unique(keys, return_index=True)
    later = np.ones(len(keys), dtype=bool)
    later[first] = False
    depth = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.add.at(depth, at[later], 1)
    np.add.at(depth, at[later] + size, -1)
    covered = np.cumsum(depth[:-1]) > 0
    return _sums(owner[covered], lengths[covered], documents)


def _sums(owner: NDArray[np.int64], lengths: NDArray[np.int64], documents: int) -> Fractions:
    """Characters of each document's words."""
    sums = np.bincount(owner, weights=lengths.astype(np.float64), minlength=documents)
    return np.asarray(sums, dtype=np.float64)


def _share(characters: Fractions, total: Fractions) -> Fractions:
    shares = np.zeros(len(total), dtype=np.float64)
    np.divide(characters, total, out=shares, where=total > 0)
    return np.asarray(np.round(shares, 6), dtype=np.float64)
