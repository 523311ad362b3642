"""Document statistics of Gopher, C4 and FineWeb, in one pass over the bytes of each document.

``components/clean/quality/score.py`` says what each one is and where it was published.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.compiled import compile_kernel
from components.text.kernels.hash_table import CountingTable, count_key, new_table, slots_for
from components.text.kernels.repeated_ngrams import DUPLICATE_SIZES, TOP_SIZES, ngram_shares
from components.text.kernels.unicode_tables import (
    BULLET,
    DIGIT,
    LETTER,
    SPACE,
    TERMINAL,
    UNSPACED,
    WATCHED,
    Bytes,
    count_characters,
    decode_character,
    hash_bytes,
    load_eight_bytes,
    mix_bits,
    previous_character,
    trim_space,
)

COLUMNS = (
    "words", "lines", "sentences", "stop_words", "curly_braces", "lorem_ipsum", "javascript",
    "mean_word_length", "symbol_ratio", "bullet_lines", "ellipsis_lines", "alphabetic_words",
    "punctuated_lines", "short_lines", "duplicate_lines", "duplicate_line_characters",
    "duplicate_paragraphs", "duplicate_paragraph_characters", "code_share", "non_ascii", "unspaced",
    *(f"top_{size}gram" for size in TOP_SIZES),
    *(f"duplicate_{size}gram" for size in DUPLICATE_SIZES),
)  # fmt: skip
"""Columns of ``fill_statistics``, in order."""
(
    WORDS, LINES, SENTENCES, STOP_WORDS, BRACES, LOREM, JAVASCRIPT,
    WORD_LENGTH, SYMBOLS, BULLETS, ELLIPSES, ALPHABETIC,
    PUNCTUATED, SHORT, LINES_AGAIN, LINE_CHARACTERS_AGAIN,
    PARAGRAPHS_AGAIN, PARAGRAPH_CHARACTERS_AGAIN, CODE, NON_ASCII, UNSPACED_SHARE,
    NGRAMS,
) = range(22)  # fmt: skip
_NEWLINE, _SPACE, _HASH, _DOT, _ELLIPSIS = 10, 32, 35, 46, 0x2026
"""Code points."""
_LOREM = np.frombuffer(b"lorem ipsum", dtype=np.uint8)
_JAVASCRIPT = np.frombuffer(b"javascript", dtype=np.uint8)
_LONGEST_STOP_WORD = 4
"""Bytes of the longest of Gopher's eight: that, have, with."""
_ALL_BITS, _CASE_BITS = np.uint64(0xFFFFFFFFFFFFFFFF), np.uint64(0x2020202020202020)
"""Masks of eight bytes; in ASCII the bit 0x20 alone tells a small letter from its capital."""
_GOLDEN_RATIO = np.uint64(0x9E3779B97F4A7C15)
"""2**64 over the golden ratio, odd: the multiplier of Fibonacci hashing (Knuth, vol. 3, 6.4)."""

Row = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Positions = NDArray[np.int64]


class StatisticsRules(NamedTuple):
    """Tables and parameters that are the same for all documents."""

    classes: Bytes
    """Flags of each code point."""
    stripped: Bytes
    """[256] 1 for the ASCII marks that are taken off a word before it is looked up."""
    stop_words: Hashes
    """The bytes of each as a number, the first one lowest."""
    short_line: int
    """Characters below which a line is short."""


class Scratch(NamedTuple):
    """Working memory for the largest document so far."""

    outside: Bytes
    """Text outside fenced code."""
    hashes: Hashes
    """Of each word."""
    starts: Positions
    """Characters of words before each word."""
    rolls: Hashes
    at: Positions
    slots: Positions
    parts: CountingTable
    """Counts lines, then n-grams."""
    sections: CountingTable
    """Counts paragraphs."""


@compile_kernel
def fill_statistics(data: Bytes, offsets: Positions, rules: StatisticsRules, rows: Row) -> None:
    """Compute the statistics of all documents of an Arrow string column.

    Args:
        data: UTF-8 of all documents, one after another.
        offsets: [documents + 1] into ``data``.
        rules: tables and parameters.
        rows: [documents, columns] out.
    """
    room = _new_scratch(1 << 14)  # fits most pages; replaced by a larger one where needed
    stamp = 0
    for number in range(len(offsets) - 1):
        start, stop = offsets[number], offsets[number + 1]
        if stop - start > len(room.outside):
            room = _new_scratch(stop - start)
        row = rows[number]
        row[:] = 0.0
        length = _copy_outside_fences(data, start, stop, rules.classes, room.outside)
        text = room.outside[:length]
        words = _measure_words(text, rules, room, row)
        stamp = _measure_lines(text, rules, room, stamp + 1, row)
        _measure_document(data, start, stop, text, rules.classes, row)
        if words:
            row[WORD_LENGTH] = room.starts[words] / words
            row[SYMBOLS] /= words
            row[ALPHABETIC] /= words
            stamp = ngram_shares(
                room.hashes, room.starts, words, room.parts, stamp,
                room.rolls, room.at, room.slots, row[NGRAMS:],
            )  # fmt: skip
        else:
            row[SYMBOLS] = 0.0


@compile_kernel
def _new_scratch(size: int) -> Scratch:
    """Memory for documents of ``size`` bytes, every second of which may begin a word or a line."""
    most = size // 2 + 2
    return Scratch(
        np.empty(size, np.uint8),
        np.empty(most, np.uint64),
        np.empty(most + 1, np.int64),
        np.empty(most, np.uint64),
        np.empty(most, np.int64),
        np.empty(most, np.int64),
        new_table(most),
        new_table(most),
    )


@compile_kernel
def _copy_outside_fences(data: Bytes, start: int, stop: int, classes: Bytes, out: Bytes) -> int:
    """Copy the lines outside fenced blocks, as ``markdown_sections.without_fences`` does."""
    length, some = 0, False
    closing, mark = 0, np.uint8(0)
    while start <= stop:
        end = start
        while end < stop and data[end] != _NEWLINE:
            end += 1
        if closing:
            first, last = trim_space(data, start, end, classes)
            if last - first >= closing and _all_are(data, first, last, mark):
                closing = 0
        else:
            closing, mark = _opening_fence(data, start, end)
            if not closing:
                if some:
                    out[length] = _NEWLINE
                    length += 1
                out[length : length + end - start] = data[start:end]
                length += end - start
                some = True
        start = end + 1
    return length


@compile_kernel
def _opening_fence(data: Bytes, start: int, end: int) -> tuple[int, np.uint8]:
    """(length, mark) of the fence that a line opens; length 0 where it opens none."""
    at = start
    while at < end and at < start + 3 and data[at] == _SPACE:
        at += 1
    if at + 3 > end or data[at] not in (96, 126):  # ` and ~
        return 0, np.uint8(0)
    mark, first = data[at], at
    while at < end and data[at] == mark:
        at += 1
    return (at - first, mark) if at - first >= 3 else (0, mark)


@compile_kernel
def _all_are(data: Bytes, start: int, stop: int, mark: np.uint8) -> bool:
    for at in range(start, stop):
        if data[at] != mark:
            return False
    return True


@compile_kernel
def _measure_words(text: Bytes, rules: StatisticsRules, room: Scratch, row: Row) -> int:
    """Count words, sentences, symbols and phrases; fills ``room.hashes`` and ``room.starts``."""
    classes, stripped, stop_words, _ = rules
    hashes, starts = room.hashes, room.starts
    words = letters = sentences = symbols = stop_bits = at = 0
    starts[0] = 0
    while True:
        while at < len(text):  # to the next word
            code, size = (np.int64(text[at]), 1) if text[at] < 0x80 else decode_character(text, at)
            if not classes[code] & SPACE:
                break
            at += size
        if at >= len(text):
            break
        began, length, dots, flags, code = at, 0, 0, 0, 0
        while at < len(text):  # to its end
            next_code, size = (
                (np.int64(text[at]), 1) if text[at] < 0x80 else decode_character(text, at)
            )
            flag = classes[next_code]
            if flag & SPACE:
                break
            code = next_code
            length += 1
            flags |= flag
            if flag & WATCHED:
                dots = dots + 1 if code == _DOT else 0
                if dots == 3 or code in (_ELLIPSIS, _HASH):
                    symbols += 1
                    dots = 0
                elif code | 32 == 106:  # j, J
                    row[JAVASCRIPT] += _matches_phrase(text, at, _JAVASCRIPT)
                elif code | 32 == 108:  # l, L
                    row[LOREM] += _matches_phrase(text, at, _LOREM)
            else:
                dots = 0
            at += size
        sentences += code in (33, 46, 63)  # ! . ?
        letters += (flags & LETTER) != 0
        first, last = began, at
        if stripped[text[began]] | stripped[text[at - 1]]:
            first, last = _trim_marks(text, began, at, stripped)
        stop_bits |= _stop_word_bit(text, first, last, stop_words)
        # Most words fit into eight bytes: one hash whatever their length, no loop.
        if at - began <= 8:
            short = _pack_eight_bytes(text, began, at)
            hashes[words] = mix_bits((short + np.uint64(at - began)) * _GOLDEN_RATIO)
        else:
            hashes[words] = hash_bytes(text, began, at)
        starts[words + 1] = starts[words] + length
        words += 1
    row[WORDS], row[SENTENCES], row[SYMBOLS], row[ALPHABETIC] = words, sentences, symbols, letters
    while stop_bits:  # one bit for each stop word that occurred
        row[STOP_WORDS] += stop_bits & 1
        stop_bits >>= 1
    return words


@compile_kernel
def _trim_marks(text: Bytes, start: int, stop: int, stripped: Bytes) -> tuple[int, int]:
    """Bounds of a word without the marks around it."""
    while start < stop and stripped[text[start]]:
        start += 1
    while stop > start and stripped[text[stop - 1]]:
        stop -= 1
    return start, stop


@compile_kernel
def _pack_eight_bytes(text: Bytes, start: int, stop: int) -> np.uint64:
    """The first eight bytes of a word, or fewer, as a number; the first byte is the lowest."""
    if start + 8 <= len(text):
        return load_eight_bytes(text, start) & (
            _ALL_BITS >> np.uint64(max(0, 64 - 8 * (stop - start)))
        )
    value = np.uint64(0)
    for at in range(min(stop, start + 8) - 1, start - 1, -1):  # the text's last word
        value = value << np.uint64(8) | np.uint64(text[at])
    return value


@compile_kernel
def _stop_word_bit(text: Bytes, start: int, stop: int, stop_words: Hashes) -> int:
    """Bit of the stop word that a word is in any case; 0 where it is none."""
    if not 0 < stop - start <= _LONGEST_STOP_WORD:
        return 0
    small = _pack_eight_bytes(text, start, stop) | (
        _CASE_BITS >> np.uint64(64 - 8 * (stop - start))
    )
    bit = 0
    for number in range(len(stop_words)):
        bit |= (stop_words[number] == small) << number
    return bit


@compile_kernel
def _matches_phrase(text: Bytes, at: int, phrase: Bytes) -> int:
    """1 where ``phrase`` stands at ``at``, in letters of any case."""
    if at + len(phrase) > len(text):
        return 0
    for offset in range(len(phrase)):
        byte = text[at + offset]
        if (byte | 32 if 65 <= byte <= 90 else byte) != phrase[offset]:  # A to Z in small
            return 0
    return 1


@compile_kernel
def _measure_lines(text: Bytes, rules: StatisticsRules, room: Scratch, stamp: int, row: Row) -> int:
    """Count lines, and paragraphs between blank lines; returns the stamp that was used."""
    classes, _, _, short_line = rules
    keys, counts, firsts, stamps = room.parts
    section_keys, section_counts, section_firsts, section_stamps = room.sections
    mask = slots_for(len(text) // 2 + 2) - 1
    lines = line_characters = paragraphs = paragraph_characters = 0
    start, opened, closed = 0, -1, -1
    while start <= len(text):
        end = start
        while end < len(text) and text[end] != _NEWLINE:
            end += 1
        first, last = trim_space(text, start, end, classes)
        if first < last:
            length = count_characters(text, first, last)
            lines += 1
            line_characters += length
            _measure_line(text, first, last, length, classes, short_line, row)
            key = hash_bytes(text, first, last)
            slot = count_key(keys, counts, firsts, stamps, mask, stamp, key, lines)
            if counts[slot] > 1:
                row[LINES_AGAIN] += 1
                row[LINE_CHARACTERS_AGAIN] += length
            opened = first if opened < 0 else opened
            closed = last
        if opened >= 0 and (first == last or end == len(text)):
            length = count_characters(text, opened, closed)
            paragraphs += 1
            paragraph_characters += length
            key = hash_bytes(text, opened, closed)
            slot = count_key(
                section_keys, section_counts, section_firsts, section_stamps,
                mask, stamp, key, paragraphs,
            )  # fmt: skip
            if section_counts[slot] > 1:
                row[PARAGRAPHS_AGAIN] += 1
                row[PARAGRAPH_CHARACTERS_AGAIN] += length
            opened = -1
        start = end + 1
    row[LINES] = lines
    if lines:
        for column in (BULLETS, ELLIPSES, PUNCTUATED, SHORT, LINES_AGAIN):
            row[column] /= lines
        row[LINE_CHARACTERS_AGAIN] /= line_characters
        row[PARAGRAPHS_AGAIN] /= paragraphs
        row[PARAGRAPH_CHARACTERS_AGAIN] /= paragraph_characters
    return stamp


@compile_kernel
def _measure_line(
    text: Bytes, first: int, last: int, length: int, classes: Bytes, short_line: int, row: Row
) -> None:
    """Count the ends and the bullet of a stripped line; a heading's marks are no symbols."""
    code, _ = decode_character(text, previous_character(text, last))
    row[PUNCTUATED] += (classes[code] & TERMINAL) != 0
    dots = last - first >= 3 and text[last - 1] == text[last - 2] == text[last - 3] == _DOT
    row[ELLIPSES] += dots or code == _ELLIPSIS
    row[SHORT] += length < short_line
    row[BULLETS] += _is_bullet(text, first, last, classes)
    at = first
    while at < last and text[at] == _HASH:
        at += 1
    if 1 <= at - first <= 6 and at < last:
        code, _ = decode_character(text, at)
        if classes[code] & SPACE:
            row[SYMBOLS] -= at - first


@compile_kernel
def _is_bullet(text: Bytes, first: int, last: int, classes: Bytes) -> bool:
    """True for a line that begins with a bullet, or a number of up to three digits, and a space."""
    code, size = decode_character(text, first)
    at = first + size
    if not classes[code] & BULLET:
        digits = 0
        at = first
        while at < last and digits < 3:
            code, size = decode_character(text, at)
            if not classes[code] & DIGIT:
                break
            digits += 1
            at += size
        if not digits or at >= last or text[at] not in (41, 46):  # ) and .
            return False
        at += 1
    if at >= last:
        return False
    code, _ = decode_character(text, at)
    return (classes[code] & SPACE) != 0


@compile_kernel
def _measure_document(
    data: Bytes, start: int, stop: int, text: Bytes, classes: Bytes, row: Row
) -> None:
    """Measure the whole document, code included."""
    every, beyond, braces, unspaced = 0, 0, 0, 0
    for at in range(start, stop):
        byte = data[at]
        every += (byte & 0xC0) != 0x80  # all but continuation bytes of UTF-8 begin a character
        beyond += byte >= 0xC0  # begins a character outside ASCII
        braces += byte in (123, 125)  # { and }
        if byte >= 0xE0:  # the scripts without spaces all begin so
            code, _ = decode_character(data, at)
            unspaced += (classes[code] & UNSPACED) != 0
    row[BRACES] = braces
    if every:
        row[CODE] = (every - count_characters(text, 0, len(text))) / every
        row[NON_ASCII] = beyond / every
        row[UNSPACED_SHARE] = unspaced / every
