"""Unicode for kernels: classes of code points, case folding, reading and hashing of UTF-8.

Classes are Python's own, so that a kernel and ``str`` agree: white space as in ``str.split``, word
characters as in ``\\w``, decimal digits as in ``\\d``.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel, compile_without_refcount

SPACE, LETTER, DIGIT, WORD, BULLET, TERMINAL, WATCHED, UNSPACED = 1, 2, 4, 8, 16, 32, 64, 128
"""Flags of a code point: one bit a class."""
BULLETS = "-*+•‣▪●"
TERMINALS = '.!?"”。！？'
WATCHED_MARKS = "#….jJlL"
"""Marks that a word is searched for: symbols, and first letters of Gopher's and C4's phrases."""
UNSPACED_RANGES = (
    *((0x0E00, 0x0F00), (0x0F00, 0x1000), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3040, 0x3100)),
    *((0x31F0, 0x3200), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x32000)),
)
"""Scripts that put no space between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, Han."""

Bytes = NDArray[np.uint8]
_END = 0x110000
"""Code points of Unicode, U+0000 to U+10FFFF."""
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
"""Multipliers of MurmurHash3's 64-bit finalizer (fmix64)."""


@functools.cache
def character_classes() -> Bytes:
    """Flags of every code point: [0x110000]."""
    table = np.zeros(_END, dtype=np.uint8)
    for code in range(_END):
        character = chr(code)
        if character.isalnum():
            flags = WORD
            flags |= LETTER * character.isalpha() | DIGIT * character.isdecimal()
            table[code] = flags
        elif character.isspace():
            table[code] = SPACE
    table[ord("_")] |= WORD
    table[[ord(c) for c in BULLETS]] |= BULLET
    table[[ord(c) for c in TERMINALS]] |= TERMINAL
    table[[ord(c) for c in WATCHED_MARKS]] |= WATCHED
    for first, end in UNSPACED_RANGES:
        table[first:end] |= UNSPACED
    return table


@functools.cache
def case_folding() -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Full case folding, as ``str.casefold``, in two tables.

    Returns:
        [0x110000] the code point that each folds to, or -1 - n where it folds to several: these
        are row n of the second table, [rows, 3], filled up with -1.
    """
    single = np.arange(_END, dtype=np.int32)
    several: list[list[int]] = []
    for code in range(_END):
        targets = [ord(character) for character in chr(code).casefold()]
        if len(targets) > 1:
            single[code] = -1 - len(several)
            several.append(targets + [-1] * (3 - len(targets)))
        else:
            single[code] = targets[0]
    return single, np.array(several, dtype=np.int32)


@compile_without_refcount
def decode_character(data: Bytes, at: int) -> tuple[int, int]:
    """(code point, bytes) of the character that starts at ``at``; the text is valid UTF-8."""
    first = np.int64(data[at])
    if first < 0x80:
        return first, 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (data[at + 1] & 0x3F), 2
    if first < 0xF0:
        return (first & 0x0F) << 12 | (data[at + 1] & 0x3F) << 6 | (data[at + 2] & 0x3F), 3
    high = (first & 0x07) << 18 | (data[at + 1] & 0x3F) << 12
    return high | (data[at + 2] & 0x3F) << 6 | (data[at + 3] & 0x3F), 4


@compile_without_refcount
def previous_character(data: Bytes, at: int) -> int:
    """Start of the character that ends before ``at``."""
    at -= 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@compile_without_refcount
def mix_bits(value: np.uint64) -> np.uint64:
    """MurmurHash3's finalizer: every bit of the result depends on every bit of ``value``."""
    value = (value ^ (value >> np.uint64(33))) * _MIX_1
    value = (value ^ (value >> np.uint64(33))) * _MIX_2
    return value ^ (value >> np.uint64(33))


@compile_kernel
def load_eight_bytes(data: Bytes, at: int) -> np.uint64:
    """Eight bytes as one number, the first one lowest; the compiler makes one load of it."""
    return (
        np.uint64(data[at])
        | np.uint64(data[at + 1]) << np.uint64(8)
        | np.uint64(data[at + 2]) << np.uint64(16)
        | np.uint64(data[at + 3]) << np.uint64(24)
        | np.uint64(data[at + 4]) << np.uint64(32)
        | np.uint64(data[at + 5]) << np.uint64(40)
        | np.uint64(data[at + 6]) << np.uint64(48)
        | np.uint64(data[at + 7]) << np.uint64(56)
    )


@compile_kernel
def hash_bytes(data: Bytes, start: int, stop: int) -> np.uint64:
    """64-bit hash of a stretch of bytes, eight at a time.

    Args:
        data: the bytes.
        start: first byte of the stretch.
        stop: byte after its last.
    """
    value = np.uint64(stop - start) * _GOLDEN_RATIO
    at = start
    while at + 8 <= stop:
        value = (value ^ load_eight_bytes(data, at)) * _GOLDEN_RATIO
        value ^= value >> np.uint64(32)
        at += 8
    rest = np.uint64(0)
    while at < stop:
        rest = rest << np.uint64(8) | np.uint64(data[at])
        at += 1
    return mix_bits((value ^ rest) * _GOLDEN_RATIO)


@compile_kernel
def count_characters(data: Bytes, start: int, stop: int) -> int:
    """Number of code points in a stretch of UTF-8.

    Args:
        data: the bytes.
        start: first byte of the stretch.
        stop: byte after its last.
    """
    count = 0
    for at in range(start, stop):
        count += (data[at] & 0xC0) != 0x80  # no continuation byte
    return count


@compile_kernel
def trim_space(data: Bytes, start: int, stop: int, flags: Bytes) -> tuple[int, int]:
    """Bounds of a stretch of UTF-8 without white space at both ends.

    Args:
        data: the bytes.
        start: first byte of the stretch.
        stop: byte after its last.
        flags: classes of code points.
    """
    while start < stop:
        code, size = decode_character(data, start)
        if not flags[code] & SPACE:
            break
        start += size
    while stop > start:
        last = previous_character(data, stop)
        code, _ = decode_character(data, last)
        if not flags[code] & SPACE:
            break
        stop = last
    return start, stop
