"""Names looked up by their hash, and the words that class and id attributes are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.characters import Bytes
from components.text.kernels.compiled import uncounted

WHOLE, INSIDE = 1 << 60, 1 << 61
"""Of a word: names the whole text (story), its inside (body)."""
_FIRST_BIT = 1
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class Names(NamedTuple):
    """Open addressing, linear probing; unpacked before loops."""

    keys: NDArray[np.uint64]
    values: NDArray[np.int64]
    """0 where a slot is free."""


def named(known: Mapping[str, int]) -> Names:
    """A table of names; no value is 0."""
    slots = 16
    while slots < 3 * len(known):
        slots *= 2
    keys, values = np.zeros(slots, np.uint64), np.zeros(slots, np.int64)
    for name, value in known.items():
        key = _key(name.encode())
        slot = int(key) & (slots - 1)
        while values[slot]:
            slot = (slot + 1) & (slots - 1)
        keys[slot], values[slot] = key, value
    return Names(keys, values)


def _key(name: bytes) -> np.uint64:
    """What ``keyed`` gives."""
    key = 0
    for byte in name:
        key = (key ^ byte) * int(_MULTIPLIER) & 0xFFFFFFFFFFFFFFFF
        key ^= key >> 32
    return np.uint64(key)


@uncounted
def look(keys: NDArray[np.uint64], values: NDArray[np.int64], key: np.uint64) -> int:
    """The value of a name; 0 for one that is not known."""
    mask = np.uint64(len(keys) - 1)
    slot = np.int64(key & mask)
    while values[slot]:
        if keys[slot] == key:
            return values[slot]
        slot = (slot + 1) & np.int64(mask)
    return np.int64(0)


@uncounted
def added(key: np.uint64, byte: int) -> np.uint64:
    """The key of a name that is one byte longer."""
    key = (key ^ np.uint64(byte)) * _MULTIPLIER
    return key ^ (key >> np.uint64(32))


@uncounted
def keyed(data: Bytes, start: int, stop: int) -> np.uint64:
    key = np.uint64(0)
    for at in range(start, stop):
        key = added(key, data[at])
    return key


@uncounted
def word_cues(
    data: Bytes,
    start: int,
    stop: int,
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    before: int,
) -> tuple[int, int]:
    """(bits of all words, what the last word is): ``related-Articles2`` has two words.

    ``before`` is what the word before was; the inside of a whole is the first group.
    """
    bits, at = np.int64(0), start
    if stop <= start:
        return bits, before
    while at < stop:
        byte = data[at]
        if byte == ord("&"):
            while data[at] != ord(";"):
                at += 1
            continue
        if not ord("a") <= byte | 32 <= ord("z"):
            at += 1
            continue
        # Capitals in a row are a word, and so are small letters with or without one capital.
        capitals = byte < ord("a") and at + 1 < stop and not ord("a") <= data[at + 1] <= ord("z")
        low, high = (ord("A"), ord("Z")) if capitals else (ord("a"), ord("z"))
        key, last, shorter = added(np.uint64(0), byte | 32), byte, np.uint64(0)
        at += 1
        while at < stop and low <= data[at] <= high:
            last, shorter = data[at] | 32, key
            key = added(key, last)
            at += 1
        found = look(keys, values, key)
        if found & INSIDE and before & WHOLE:
            bits |= _FIRST_BIT
        before = found
        found &= ~(WHOLE | INSIDE)
        if not found and last == ord("s"):
            found = look(keys, values, shorter) & ~(WHOLE | INSIDE)
        bits |= found
    return bits, before


@uncounted
def stands(data: Bytes, start: int, expected: bytes) -> bool:
    for at in range(len(expected)):
        if data[start + at] != expected[at]:
            return False
    return True


@uncounted
def holds(data: Bytes, start: int, stop: int, expected: bytes) -> bool:
    for at in range(start, stop - len(expected) + 1):
        if stands(data, at, expected):
            return True
    return False
