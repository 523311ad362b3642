"""Fingerprints of long passages: rolling hashes of word windows, thinned out by winnowing.

``components/text/dedup/long_passages.py`` says what a passage is and what is guaranteed.
"""

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
"""Base of the polynomial rolling hash modulo 2**64: 2**64 over the golden ratio, odd."""


@compile_kernel
def winnow_passages(
    data: Bytes, bounds: Positions, tables: WordTables, length: int, guarantee: int
) -> tuple[Hashes, Positions, Positions, Positions]:
    """Fingerprint every document: (hashes, first words, documents, words of each document).

    Args:
        data: UTF-8 of all documents, one after another.
        bounds: [documents + 1] offsets into ``data``.
        tables: character classes and case folding.
        length: words of a passage.
        guarantee: passages in a row of which at least one is chosen.
    """
    documents = len(bounds) - 1
    words = np.zeros(documents, np.int64)
    room = np.empty(1 << 12, np.uint64)  # these first sizes fit most; arrays grow where needed
    keys = np.empty(1 << 16, np.uint64)
    at = np.empty(1 << 16, np.int64)
    owner = np.empty(1 << 16, np.int64)
    count = 0
    for number in range(documents):
        most = (bounds[number + 1] - bounds[number]) // 2 + 2  # a word takes two bytes with its gap
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
    """Replace word hashes by rolling hashes of ``length`` words; returns the number of windows."""
    if words < length:
        return 0
    leaving = np.uint64(1)  # weight of the word that leaves the window: base ** length
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
    """Choose of every ``guarantee`` windows in a row the least hash, the last of equals; count."""
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
    keys: Hashes, owner: Positions, order: Positions, max_older: int
) -> tuple[Positions, Positions]:
    """Pairs (fingerprint, older document) of fingerprints that older documents hold too.

    Args:
        keys: hash of each fingerprint.
        owner: document of each fingerprint.
        order: sort by key, then by document.
        max_older: documents that hold a key and count as older ones, the first ones.
    """
    none = np.empty(0, np.int64)
    size = _fill_matches(keys, owner, order, max_older, none, none)
    prints, older = np.empty(size, np.int64), np.empty(size, np.int64)
    _fill_matches(keys, owner, order, max_older, prints, older)
    return prints, older


@compile_kernel
def _fill_matches(
    keys: Hashes,
    owner: Positions,
    order: Positions,
    max_older: int,
    prints: Positions,
    older: Positions,
) -> int:
    """Write pairs as far as the arrays reach; returns how many there are in all."""
    count = start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and keys[order[stop]] == keys[order[start]]:
            stop += 1
        for later in range(start + 1, stop):
            matched, before = 0, -1
            for earlier in range(start, later):
                document = owner[order[earlier]]
                if document == owner[order[later]] or matched == max_older:
                    break
                if document != before:
                    if count < len(prints):
                        prints[count], older[count] = order[later], document
                    count += 1
                    matched += 1
                    before = document
        start = stop
    return count


@compile_kernel
def count_covered_words(at: Positions, group: Positions, groups: int, length: int) -> Positions:
    """Number of words of each group that lie inside a passage; overlaps count once.

    Args:
        at: first word of each passage, rising within a group.
        group: group of each passage; those of a group stand together.
        groups: number of groups.
        length: words of a passage.
    """
    words = np.zeros(groups, np.int64)
    until, before = 0, -1
    for one in range(len(at)):
        if group[one] != before:
            until, before = 0, group[one]
        words[group[one]] += at[one] + length - max(at[one], until)
        until = at[one] + length
    return words
