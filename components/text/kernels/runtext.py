"""Shallow features of short texts: words, sentences, case, and what they share with other texts.

The columns are those of ``components/collect/features.py``; each text is read once.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.characters import DIGIT, SPACE, WORD, Bytes, before, decode, mixed
from components.text.kernels.compiled import compiled, uncounted
from components.text.kernels.table import insert, new_table

Codes = NDArray[np.int32]
Hashes = NDArray[np.uint64]
LOWER, UPPER, MARK, FULL_MARK, CLOSER, COMMA, ENDING = 1, 2, 4, 8, 16, 32, 64
COLUMNS = 19
_CASED = 0x20000
"""No letter with a case is beyond."""
_GROUPS = {
    MARK: ".!?。！？…",
    FULL_MARK: "。！？",
    CLOSER: "\"'”’»)]",
    COMMA: ",;:،、，",
    ENDING: ".!?。！？…:",
}
_PREFIX, _DESCRIBED, _MOST = 80, 60, 40
"""Characters compared with a body and with a description; words of what may be a title."""
_WINDOW = 4
_FILTER = np.uint64(0xFFFF)
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@functools.cache
def cases() -> tuple[Bytes, Codes]:
    """(flags, lower case) of code points; one that grows in lower case keeps its own."""
    flags = np.zeros(_CASED, dtype=np.uint8)
    lowered = np.arange(_CASED, dtype=np.int32)
    for code in range(_CASED):
        character = chr(code)
        flags[code] = LOWER * character.islower() | UPPER * character.istitle()
        small = character.lower()
        if len(small) == 1:
            lowered[code] = ord(small)
    for flag, marks in _GROUPS.items():
        flags[[ord(mark) for mark in marks]] |= flag
    return flags, lowered


@compiled
def describe_texts(
    text: Bytes,
    starts: NDArray[np.int64],
    stops: NDArray[np.int64],
    counts: NDArray[np.int64],
    classes: Bytes,
    cased: Bytes,
    lowered: Codes,
    title: Bytes,
    description: Bytes,
    body: Bytes,
) -> NDArray[np.float32]:
    """(texts, ``COLUMNS``); ``counts`` [4, texts] are characters, linked, links and strong."""
    table = np.zeros((len(starts), COLUMNS), np.float32)
    words = _title_words(title, classes, lowered)
    told, held = _folded(description, classes, lowered), _folded(body, classes, lowered)
    told_windows, held_windows = _windows(told), _windows(held)
    keys, seen, firsts, stamps = new_table(len(starts))
    prefix, hashes = np.zeros(_PREFIX, np.int32), np.zeros(_MOST, np.uint64)
    for index in range(len(starts)):
        row, start, stop = table[index], starts[index], stops[index]
        _shape(row, text, start, stop, counts[:, index], classes, cased)
        count, size, whole = _words(
            row, text, start, stop, classes, cased, lowered, hashes, prefix, counts[0, index]
        )
        if len(words) and count < _MOST:
            among = 0
            for at in range(count):
                slot = np.searchsorted(words, hashes[at])
                among += slot < len(words) and words[slot] == hashes[at]
            row[12], row[13] = among / max(count, 1), among / len(words)
        if len(told) and count > 3:
            row[14] = _holds(told, told_windows, prefix, min(size, _DESCRIBED))
        slot = insert(keys, seen, firsts, stamps, len(keys) - 1, 1, whole, index)
        row[15] = seen[slot] > 1
        if len(held):
            row[16] = count > 1 and size > 0 and _holds(held, held_windows, prefix, size)
            row[17] = 1
    return table


@uncounted
def _shape(
    row: NDArray[np.float32],
    text: Bytes,
    start: int,
    stop: int,
    counts: NDArray[np.int64],
    classes: Bytes,
    cased: Bytes,
) -> None:
    """What does not depend on words."""
    chars = counts[0]
    row[0] = np.log1p(np.float64(chars))
    row[2] = min(counts[1] / chars, 1.0)
    row[3] = min(counts[2], 20)
    row[4] = min(counts[3] / chars, 1.0)
    sentences, commas, at, waits = 0, 0, start, False
    while at < stop:
        code, size = decode(text, at)
        at += size
        flags = cased[code] if code < _CASED else np.uint8(0)
        sentences += waits and ((flags & CLOSER) != 0 or (classes[code] & SPACE) != 0)
        waits = False
        if flags & FULL_MARK:
            sentences += 1
        else:
            waits = (flags & MARK) != 0
        commas += (flags & COMMA) != 0
    row[6], row[7] = min(sentences + waits, 12), min(commas, 20)
    row[8] = _ends(text, start, stop, cased)
    first, _ = decode(text, start)
    row[9] = first < _CASED and (cased[first] & UPPER) != 0
    row[18] = text[stop - 1] == ord("?")


@uncounted
def _ends(text: Bytes, start: int, stop: int, cased: Bytes) -> bool:
    """Whether a sentence's mark, maybe with closing marks after it, is last."""
    for _ in range(8):
        if stop <= start:
            return False
        stop = before(text, stop)
        code, _ = decode(text, stop)
        flags = cased[code] if code < _CASED else np.uint8(0)
        if flags & ENDING:
            return True
        if not flags & CLOSER:
            return False
    return False


@uncounted
def _words(
    row: NDArray[np.float32],
    text: Bytes,
    start: int,
    stop: int,
    classes: Bytes,
    cased: Bytes,
    lowered: Codes,
    hashes: Hashes,
    prefix: Codes,
    chars: int,
) -> tuple[int, int, np.uint64]:
    """(words, characters of the folded beginning, hash of the text in lower case)."""
    count, small, digits, size = 0, 0, 0, 0
    whole, word = np.uint64(0), np.uint64(0)
    inside, has_lower, has_upper, only_digits = False, False, False, True
    at = start
    while at <= stop:
        code, step = decode(text, at) if at < stop else (np.int64(32), 1)
        at += step
        if code < _CASED:
            flags, low = np.int64(cased[code]), np.int64(lowered[code])
        else:
            flags, low = np.int64(0), code
        whole = _added(whole, low)
        if classes[code] & WORD:
            if not inside:
                word, inside = np.uint64(0), True
                has_lower, has_upper, only_digits = False, False, True
            word = _added(word, low)
            has_lower |= (flags & LOWER) != 0
            has_upper |= (flags & UPPER) != 0
            only_digits &= (classes[code] & DIGIT) != 0
            if size < _PREFIX:
                prefix[size] = low
                size += 1
        elif inside:
            inside = False
            if count < _MOST:
                hashes[count] = mixed(word)
            count += 1
            small += has_lower and not has_upper
            digits += only_digits
    some = max(count, 1)
    row[1], row[5] = np.log1p(np.float64(count)), min(chars / some, 20.0)
    row[10], row[11] = small / some, digits / some
    return count, size, mixed(whole)


@uncounted
def _added(value: np.uint64, code: int | np.int64) -> np.uint64:
    value = (value ^ np.uint64(code)) * _MULTIPLIER
    return value ^ (value >> np.uint64(32))


@compiled
def _title_words(title: Bytes, classes: Bytes, lowered: Codes) -> Hashes:
    """Hashes of a text's words, sorted, each once."""
    found = np.zeros(len(title) + 1, np.uint64)
    count, at, word, inside = 0, 0, np.uint64(0), False
    while at <= len(title):
        code, step = decode(title, at) if at < len(title) else (np.int64(32), 1)
        at += step
        if classes[code] & WORD:
            word = _added(
                word if inside else np.uint64(0),
                np.int64(lowered[code]) if code < _CASED else code,
            )
            inside = True
        elif inside:
            found[count], inside = mixed(word), False
            count += 1
    return np.unique(found[:count])


@compiled
def _folded(text: Bytes, classes: Bytes, lowered: Codes) -> Codes:
    """Letters and digits alone, in lower case."""
    found = np.zeros(len(text), np.int32)
    count, at = 0, 0
    while at < len(text):
        code, step = decode(text, at)
        at += step
        if classes[code] & WORD:
            found[count] = lowered[code] if code < _CASED else code
            count += 1
    return found[:count]


@uncounted
def _window(codes: Codes, at: int) -> np.uint64:
    value = np.uint64(0)
    for step in range(_WINDOW):
        value = _added(value, np.int64(codes[at + step]))
    return value & _FILTER


@compiled
def _windows(codes: Codes) -> NDArray[np.bool_]:
    """Which hashes of four characters in a row occur: most texts are refused by their first."""
    found = np.zeros(np.int64(_FILTER) + 1 if len(codes) else 0, np.bool_)
    for at in range(len(codes) - _WINDOW + 1):
        found[_window(codes, at)] = True
    return found


@uncounted
def _holds(codes: Codes, windows: NDArray[np.bool_], wanted: Codes, size: int) -> bool:
    """Whether the first ``size`` of ``wanted`` stand in ``codes``."""
    if size >= _WINDOW and len(codes) and not windows[_window(wanted, 0)]:
        return False
    for start in range(len(codes) - size + 1):
        at = 0
        while at < size and codes[start + at] == wanted[at]:
            at += 1
        if at == size:
            return True
    return False
