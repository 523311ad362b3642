"""Fingerprints of long passages: hashes of word windows, a few of them chosen by winnowing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel
from components.text.kernels.shingle_hashes import WordTables, hash_words
from components.text.kernels.unicode_tables import Bytes, mix_bits

Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]
_ROLL_BASE = np.uint64(0x9E3779B97F4A7C15)


@compile_kernel
def winnow_passages(
    data: Bytes, bounds: Positions, tables: WordTables, length: int, guarantee: int
) -> tuple[Hashes, Positions, Positions, Positions]:
    """(hash of a passage, its first word, its document) of the chosen ones; words a document."""
    documents = len(bounds) - 1
    words = np.zeros(documents, np.int64)
    room = np.empty(1 << 12, np.uint64)
    keys = np.empty(1 << 16, np.uint64)
    at = np.empty(1 << 16, np.int64)
    owner = np.empty(1 << 16, np.int64)
    count = 0
    for number in range(documents):
        most = (bounds[number + 1] - bounds[number]) // 2 + 2
        if most > len(room):
            room = np.empty(most, np.uint64)
        words[number] = hash_words(data, bounds[number], bounds[number + 1], tables, room)
        windows = _hash_windows(room, words[number], length)
        if count + windows > len(keys):
            size = 2 * (count + windows)
            keys, at, owner = _grow(keys, size), _grow(at, size), _grow(owner, size)
        chosen = _winnow(room, windows, guarantee, keys[count:], at[count:])
        owner[count : count + chosen] = number
        count += chosen
    return keys[:count].copy(), at[:count].copy(), owner[:count].copy(), words


@compile_kernel
def _grow(array: NDArray[Any], size: int) -> NDArray[Any]:
    made = np.empty(size, array.dtype)
    made[: len(array)] = array
    return made


@compile_kernel
def _hash_windows(hashes: Hashes, words: int, length: int) -> int:
    """Replace word hashes by those of ``length`` words from each one on; how many there are."""
    if words < length:
        return 0
    leaving = np.uint64(1)
    for _ in range(length):
        leaving *= _ROLL_BASE
    total = np.uint64(0)
    for word in range(length):
        total = total * _ROLL_BASE + hashes[word]
    for first in range(words - length + 1):
        gone = hashes[first]
        hashes[first] = mix_bits(total)
        if first + length < words:
            total = total * _ROLL_BASE + hashes[first + length] - gone * leaving
    return words - length + 1


@compile_kernel
def _winnow(hashes: Hashes, windows: int, guarantee: int, keys: Hashes, at: Positions) -> int:
    """Of every ``guarantee`` windows in a row the least hash, the last of equals; each once."""
    count, least = 0, -1
    for end in range(windows):
        begin = max(0, end - guarantee + 1)
        if least < begin:
            least = begin
            for one in range(begin + 1, end + 1):
                if hashes[one] <= hashes[least]:
                    least = one
        elif hashes[end] <= hashes[least]:
            least = end
        if (end >= guarantee - 1 or end == windows - 1) and (not count or at[count - 1] != least):
            keys[count], at[count] = hashes[least], least
            count += 1
    return count


@compile_kernel
def match_older_documents(
    keys: Hashes, owner: Positions, order: Positions, most: int
) -> tuple[Positions, Positions]:
    """(fingerprint, older document) for every fingerprint that older documents hold too.

    ``order`` sorts by key, then by document. Of the documents that hold a key the first ``most``
    count as older ones.
    """
    none = np.empty(0, np.int64)
    size = _fill_matches(keys, owner, order, most, none, none)
    prints, older = np.empty(size, np.int64), np.empty(size, np.int64)
    _fill_matches(keys, owner, order, most, prints, older)
    return prints, older


@compile_kernel
def _fill_matches(
    keys: Hashes, owner: Positions, order: Positions, most: int, prints: Positions, older: Positions
) -> int:
    """Fill what has room; how many there are."""
    count = start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        for later in range(start + 1, stop):
            seen, before = 0, -1
            for one in range(start, later):
                document = owner[order[one]]
                if document == owner[order[later]] or seen == most:
                    break
                if document != before:
                    if count < len(prints):
                        prints[count], older[count] = order[later], document
                    count += 1
                    seen += 1
                    before = document
        start = stop
    return count


@compile_kernel
def count_covered_words(at: Positions, group: Positions, groups: int, length: int) -> Positions:
    """Words inside passages of ``length`` that begin at ``at`` (rising in a group), each once."""
    words = np.zeros(groups, np.int64)
    until, before = 0, -1
    for one in range(len(at)):
        if group[one] != before:
            until, before = 0, group[one]
        words[group[one]] += at[one] + length - max(at[one], until)
        until = at[one] + length
    return words
