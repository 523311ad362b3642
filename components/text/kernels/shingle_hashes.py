"""Word shingles of documents as 64-bit hashes, their MinHash signatures and exact Jaccard.

``components/text/dedup/shingles.py`` says what a shingle is and where the method was published.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel
from components.text.kernels.unicode_tables import (
    WORD,
    Bytes,
    case_folding,
    character_classes,
    decode_character,
    mix_bits,
)

SHINGLE_WORDS = 5
_ROLL_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX_32_1, _MIX_32_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_SPACE = 32

Hashes = NDArray[np.uint64]
Signatures = NDArray[np.uint32]
Positions = NDArray[np.int64]


class WordTables(NamedTuple):
    """What makes a word: runs of word characters of the case folded text."""

    ascii: Bytes
    """Of a byte: the letter it folds to, 0 where it is none or part of a longer character."""
    flags: Bytes
    single: NDArray[np.int32]
    several: NDArray[np.int32]


def word_tables() -> WordTables:
    """The tables, made once a process."""
    flags, (single, several) = character_classes(), case_folding()
    first = np.zeros(256, dtype=np.uint8)
    first[:128] = np.where(flags[:128] & WORD, single[:128], 0)
    return WordTables(first, flags, single, several)


@compile_kernel
def hash_words(data: Bytes, start: int, stop: int, tables: WordTables, out: Hashes) -> int:
    """Fill ``out`` with the hash of every word in order; how many."""
    ascii_letters, flags, single, several = tables
    count, value, inside, at = 0, np.uint64(0), False, start
    while at <= stop:
        while at < stop and ascii_letters[data[at]]:  # most of most texts
            value = (value ^ np.uint64(ascii_letters[data[at]])) * _ROLL_BASE
            inside = True
            at += 1
        code, size = _SPACE, 1  # behind the text, so that the last word ends
        if at < stop:
            code, size = (np.int64(data[at]), 1) if data[at] < 0x80 else decode_character(data, at)
        at += size
        fold = np.int64(single[code])
        piece = 0
        while True:
            letter = fold if fold >= 0 else np.int64(several[-fold - 1, piece])
            if flags[letter] & WORD:
                value = (value ^ np.uint64(letter)) * _ROLL_BASE
                inside = True
            elif inside:
                out[count] = mix_bits(value)
                count += 1
                value, inside = np.uint64(0), False
            piece += 1
            if fold >= 0 or piece == 3 or several[-fold - 1, piece] < 0:
                break
    return count


@compile_kernel
def hash_shingles(data: Bytes, start: int, stop: int, tables: WordTables, out: Hashes) -> int:
    """Fill ``out`` with the hash of every five words in a row, repeats included; how many."""
    words = hash_words(data, start, stop, tables, out)
    for one in range(words - SHINGLE_WORDS + 1):
        total = np.uint64(0)
        for word in range(SHINGLE_WORDS):
            total = total * _ROLL_BASE + out[one + word]
        out[one] = mix_bits(total)
    return max(0, words - SHINGLE_WORDS + 1)


@compile_kernel
def fill_signature(
    hashes: Hashes, multipliers: Signatures, offsets: Signatures, out: Signatures
) -> None:
    """MinHash over the upper halves of ``found``: the least of a * h + b for each permutation.

    datasketch's scheme affine32: h is mixed by MurmurHash3's 32-bit finalizer first.
    """
    out[:] = np.uint32(0xFFFFFFFF)
    for one in range(len(hashes)):
        value = np.uint32(hashes[one] >> np.uint64(32))
        value = np.uint32((value ^ (value >> np.uint32(16))) * _MIX_32_1)
        value = np.uint32((value ^ (value >> np.uint32(13))) * _MIX_32_2)
        value = np.uint32(value ^ (value >> np.uint32(16)))
        for number in range(len(out)):
            permuted = np.uint32(multipliers[number] * value + offsets[number])
            out[number] = min(out[number], permuted)


@compile_kernel
def fill_signatures(
    data: Bytes,
    bounds: Positions,
    tables: WordTables,
    multipliers: Signatures,
    offsets: Signatures,
    out: Signatures,
) -> Positions:
    """Fill ``out`` [documents, permutations]; returns each document's shingles, repeats counted."""
    counts = np.zeros(len(bounds) - 1, np.int64)
    room = np.empty(1 << 12, np.uint64)
    for number in range(len(counts)):
        start, stop = bounds[number], bounds[number + 1]
        if (stop - start) // 2 + 1 > len(room):
            room = np.empty((stop - start) // 2 + 1, np.uint64)
        counts[number] = hash_shingles(data, start, stop, tables, room)
        fill_signature(room[: counts[number]], multipliers, offsets, out[number])
    return counts


@compile_kernel
def hash_bands(signed: Signatures, bands: int, rows: int) -> Hashes:
    """[documents, bands]: documents agree in a band where all ``rows`` of its values agree."""
    keys = np.empty((len(signed), bands), np.uint64)
    for number in range(len(signed)):
        for band in range(bands):
            key = np.uint64(band)
            for row in range(rows):
                key = mix_bits(key * _ROLL_BASE + np.uint64(signed[number, band * rows + row]))
            keys[number, band] = key
    return keys


@compile_kernel
def distinct_shingles(
    data: Bytes, bounds: Positions, chosen: Positions, tables: WordTables
) -> tuple[Hashes, Positions]:
    """(sorted distinct shingles of the chosen documents one after another, their bounds)."""
    ends = np.zeros(len(chosen) + 1, np.int64)
    room = np.empty(1 << 16, np.uint64)
    for number in range(len(chosen)):
        start, stop = bounds[chosen[number]], bounds[chosen[number] + 1]
        begin = ends[number]
        if begin + (stop - start) // 2 + 1 > len(room):
            larger = np.empty(2 * (begin + (stop - start) // 2 + 1), np.uint64)
            larger[:begin] = room[:begin]
            room = larger
        count = hash_shingles(data, start, stop, tables, room[begin:])
        some = np.sort(room[begin : begin + count])
        kept = 0
        for one in range(count):
            if one == 0 or some[one] != some[one - 1]:
                room[begin + kept] = some[one]
                kept += 1
        ends[number + 1] = begin + kept
    return room[: ends[-1]].copy(), ends


@compile_kernel
def jaccard_of_sorted_sets(
    sets: Hashes, bounds: Positions, lefts: Positions, rights: Positions
) -> NDArray[np.float64]:
    """|A ∩ B| / |A ∪ B| of pairs of sorted sets; 0 where both are empty."""
    found = np.zeros(len(lefts), np.float64)
    for number in range(len(lefts)):
        left, left_end = bounds[lefts[number]], bounds[lefts[number] + 1]
        right, right_end = bounds[rights[number]], bounds[rights[number] + 1]
        total = left_end - left + right_end - right
        common = 0
        while left < left_end and right < right_end:
            a, b = sets[left], sets[right]
            common += a == b
            left += a <= b
            right += b <= a
        if total:
            found[number] = common / (total - common)
    return found
