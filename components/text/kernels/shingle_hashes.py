"""Word shingles as 64-bit hashes, MinHash signatures, LSH band keys and exact Jaccard similarity.

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
"""Base of all polynomial hashes modulo 2**64: 2**64 over the golden ratio, odd."""
_MIX_32_1, _MIX_32_2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
"""Multipliers of MurmurHash3's 32-bit finalizer (fmix32)."""
_SPACE = 32

Hashes = NDArray[np.uint64]
Signatures = NDArray[np.uint32]
Positions = NDArray[np.int64]


class WordTables(NamedTuple):
    """Tables that tell words: runs of word characters of the case folded text."""

    ascii: Bytes
    """[256] the letter a byte folds to, 0 where it is none or part of a longer character."""
    flags: Bytes
    """Classes of each code point."""
    single: NDArray[np.int32]
    several: NDArray[np.int32]
    """Both as ``case_folding`` gives them."""


def word_tables() -> WordTables:
    """The tables of this process (the large ones are made once)."""
    flags, (single, several) = character_classes(), case_folding()
    first = np.zeros(256, dtype=np.uint8)
    first[:128] = np.where(flags[:128] & WORD, single[:128], 0)
    return WordTables(first, flags, single, several)


@compile_kernel
def hash_words(data: Bytes, start: int, stop: int, tables: WordTables, out: Hashes) -> int:
    """Fill ``out`` with the hash of every word in order; returns their number.

    Args:
        data: UTF-8 of all documents.
        start: first byte of this one.
        stop: byte after its last.
        tables: character classes and case folding.
        out: room for (stop - start) // 2 + 1 words, which take two bytes with the gap between.
    """
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
        piece = 0  # a character may fold to three: "ﬃ" to "ffi"
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
    """Fill ``out`` with the hash of every five words in a row; returns their number.

    Args:
        data: UTF-8 of all documents.
        start: first byte of this one.
        stop: byte after its last.
        tables: character classes and case folding.
        out: room for the document's words; repeats are included.
    """
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
    """MinHash over the upper halves of ``hashes``: the least of a * h + b for each permutation.

    datasketch's scheme affine32: h is mixed by MurmurHash3's 32-bit finalizer first.

    Args:
        hashes: shingles of one document.
        multipliers: [permutations] a.
        offsets: [permutations] b.
        out: [permutations] signature; all ones where there is no shingle.
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
    """Fill the signatures of all documents; returns each one's shingles, repeats counted.

    Args:
        data: UTF-8 of all documents, one after another.
        bounds: [documents + 1] offsets into ``data``.
        tables: character classes and case folding.
        multipliers: [permutations] of the hash functions a * h + b.
        offsets: [permutations] of the same.
        out: [documents, permutations] signatures.
    """
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
    """Keys [documents, bands] that agree where all values of a band agree.

    Args:
        signed: [documents, permutations] signatures.
        bands: bands to cut a signature into.
        rows: values of a band; bands * rows are at most the permutations.
    """
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
    """(sorted distinct shingles of the chosen documents one after another, their bounds).

    Args:
        data: UTF-8 of all documents, one after another.
        bounds: [documents + 1] offsets into ``data``.
        chosen: documents to take, in this order.
        tables: character classes and case folding.
    """
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
        ordered = np.sort(room[begin : begin + count])
        kept = 0
        for one in range(count):
            if one == 0 or ordered[one] != ordered[one - 1]:
                room[begin + kept] = ordered[one]
                kept += 1
        ends[number + 1] = begin + kept
    return room[: ends[-1]].copy(), ends


@compile_kernel
def jaccard_of_sorted_sets(
    sets: Hashes, bounds: Positions, lefts: Positions, rights: Positions
) -> NDArray[np.float64]:
    """Jaccard similarity ``|A ∩ B| / |A ∪ B|`` of pairs of sets; 0 where both are empty.

    Args:
        sets: hashes of all sets one after another, each sorted and distinct.
        bounds: [sets + 1] offsets into ``sets``.
        lefts: [pairs] first set of each pair.
        rights: [pairs] second set of each pair.
    """
    similarities = np.zeros(len(lefts), np.float64)
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
            similarities[number] = common / (total - common)
    return similarities
