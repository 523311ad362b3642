"""Shares of a document's characters in repeated n-grams, as Gopher filters by them.

Definitions: Gopher (Rae et al. 2021, arXiv:2112.11446, table A1) as datatrove implements it: of
duplicate n-grams, the first occurrence counts as original, and a word covered twice counts once.
Characters are those of words; white space counts for neither side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel
from components.text.kernels.hash_table import CountingTable, count_key, slots_for
from components.text.kernels.unicode_tables import mix_bits

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
_FIRST, _LAST_TOP, _LAST = TOP_SIZES[0], TOP_SIZES[-1], DUPLICATE_SIZES[-1]
_ROLL_BASE = np.uint64(0x9E3779B97F4A7C15)
"""Base of the polynomial hash of word hashes modulo 2**64: 2**64 over the golden ratio, odd."""

Positions = NDArray[np.int64]
Counts = NDArray[np.int32]


@compile_kernel
def ngram_shares(
    hashes: NDArray[np.uint64],
    starts: Positions,
    words: int,
    table: CountingTable,
    stamp: int,
    rolls: NDArray[np.uint64],
    at: Positions,
    slots: Positions,
    row: NDArray[np.float64],
) -> int:
    """Fill ``row`` with the shares of sizes 2 to 10; returns the last stamp used.

    An n-gram can only be repeated where the one a word shorter is, so positions get fewer with
    every size.

    Args:
        hashes: [words] hash of each word.
        starts: [words + 1] characters before each word; the last entry counts all.
        words: number of words.
        table: counts n-grams; has room for ``words`` entries.
        stamp: last stamp that was used with the table.
        rolls: scratch: hash of the n-gram at each remaining position.
        at: scratch: remaining positions, the first word of each n-gram.
        slots: scratch: slot of each remaining n-gram.
        row: [9] out: top 2 to 4, then duplicate 5 to 10.
    """
    row[:] = 0.0
    keys, counts, firsts, stamps = table
    for word in range(words):
        at[word], rolls[word] = word, hashes[word]
    remaining = words
    for size in range(_FIRST, _LAST + 1):
        remaining = _extend_ngrams(hashes, words, size, rolls, at, remaining)
        if remaining < 2:
            break
        stamp += 1
        mask = slots_for(remaining) - 1
        for index in range(remaining):
            key = mix_bits(rolls[index])
            slots[index] = count_key(keys, counts, firsts, stamps, mask, stamp, key, at[index])
        if size <= _LAST_TOP:
            characters = _top_ngram_characters(counts, firsts, starts, size, at, slots, remaining)
        else:
            characters = _duplicate_characters(firsts, starts, size, at, slots, remaining)
        row[size - _FIRST] = characters / starts[words]
        remaining = _keep_repeated(counts, rolls, at, slots, remaining)
    return stamp


@compile_kernel
def _extend_ngrams(
    hashes: NDArray[np.uint64],
    words: int,
    size: int,
    rolls: NDArray[np.uint64],
    at: Positions,
    remaining: int,
) -> int:
    """Append the next word to every n-gram that has one; returns how many remain."""
    extended = 0
    for index in range(remaining):
        if at[index] + size <= words:
            rolls[extended] = rolls[index] * _ROLL_BASE + hashes[at[index] + size - 1]
            at[extended] = at[index]
            extended += 1
    return extended


@compile_kernel
def _keep_repeated(
    counts: Counts, rolls: NDArray[np.uint64], at: Positions, slots: Positions, remaining: int
) -> int:
    """Keep the positions whose n-gram occurs more than once; returns how many remain."""
    kept = 0
    for index in range(remaining):
        if counts[slots[index]] > 1:
            rolls[kept], at[kept] = rolls[index], at[index]
            kept += 1
    return kept


@compile_kernel
def _top_ngram_characters(
    counts: Counts,
    firsts: Counts,
    starts: Positions,
    size: int,
    at: Positions,
    slots: Positions,
    remaining: int,
) -> int:
    """Characters in the most frequent n-gram, the longest of equals; 0 where none occurs twice."""
    most, characters = 1, 0
    for index in range(remaining):
        slot, first = slots[index], at[index]
        count = counts[slot]
        if count < 2 or count < most or firsts[slot] != first:
            continue
        weight = count * (starts[first + size] - starts[first])
        if count > most or weight > characters:
            most, characters = count, weight
    return characters


@compile_kernel
def _duplicate_characters(
    firsts: Counts, starts: Positions, size: int, at: Positions, slots: Positions, remaining: int
) -> int:
    """Characters of words inside n-grams that occurred earlier in the document."""
    characters, until = 0, 0
    for index in range(remaining):
        first = at[index]
        if firsts[slots[index]] != first:
            characters += starts[first + size] - starts[max(first, until)]
            until = first + size
    return characters
