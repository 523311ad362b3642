"""A serialised element read as boxes and runs of text, in one pass over its bytes.

The bytes are XML as libxml2 writes it: every tag closed, ``<``, ``>``, ``&`` and, in attributes,
``"`` and line ends escaped. What a box and a run are is said in ``components/collect/blocks.py``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from components.text.kernels.characters import SPACE, Bytes, decode, mixed
from components.text.kernels.classwords import Names, holds, keyed, look, stands, word_cues
from components.text.kernels.compiled import uncounted

Row = NDArray[np.int64]
Keys = NDArray[np.uint64]
Columns = NDArray[np.int64]
(TAG, NAME, KIND, PARENT, CUES, DEPTH, FIRST, LAST, AT) = range(9)
"""Rows of a box: hashes of its tag and of tag and class, what the tag is, and so on."""
BOX_ROWS = 9
(RUN_BOX, CHARS, LINKED, LINKS, STRONG_CHARS, START, STOP) = range(7)
"""Rows of a run; the last two are its bytes in the text."""
RUN_ROWS = 7
INLINE, UNREAD, LINK, STRONG, BREAK, KNOWN = 1 << 50, 1 << 51, 1 << 52, 1 << 53, 1 << 54, 1 << 55
"""What a tag is, beside bits of the caller's own."""
(
    _IN_LINK, _IN_STRONG, _LINKS, _LINKED, _STRONG_CHARS, _BREAKS, _OPEN, _OUT, _START, _CHARS,
    _SPACED, _RUNS, _PIECES, _BOXES, _SINCE, _UP_TO, _DEPTH,
) = range(17)  # fmt: skip
_CLASS, _ID, _KIND, _ROLE, _STYLE, _HIDDEN, _ARIA = range(7)
_REPLACEMENT = 0xFFFD
_LT, _GT, _AMP, _SLASH, _BANG, _QUOTE, _EQUALS, _BLANK = 60, 62, 38, 47, 33, 34, 61, 32


class Page(NamedTuple):
    """What a scan gives."""

    boxes: Columns
    runs: Columns
    pieces: Columns
    """(number of its element * 2 + whether it stands after it, run) of every bit of text."""
    text: Bytes
    """All runs, white space folded, a line each."""


def read_markup(data: Bytes, flags: Bytes, tags: Names, words: Names, values: Names) -> Page:
    """The runs and boxes of an element; ``values`` are what other attributes may be."""
    most = elements(data)
    boxes = np.zeros((BOX_ROWS, most), np.int64)
    runs = np.zeros((RUN_ROWS, 2 * most), np.int64)
    pieces = np.zeros((2, 2 * most), np.int64)
    text = np.empty(len(data) + 4 * most + 16, np.uint8)
    state, spans = np.zeros(17, np.int64), np.zeros((2, 7), np.int64)
    stack = np.full((3, most + 1), -1, np.int64)
    scan(data, flags, *tags, *words, *values, boxes, runs, pieces, text, state, spans, stack)
    return Page(
        boxes[:, : state[_BOXES]],
        runs[:, : state[_RUNS]],
        pieces[:, : state[_PIECES]],
        text[: state[_OUT]],
    )


@uncounted
def elements(data: Bytes) -> int:
    found = 0
    for at in range(len(data) - 1):
        found += data[at] == _LT and data[at + 1] != _SLASH
    return found


@uncounted
def scan(
    data: Bytes,
    flags: Bytes,
    tags: Keys,
    tag_kinds: Row,
    words: Keys,
    word_bits: Row,
    values: Keys,
    value_bits: Row,
    boxes: Columns,
    runs: Columns,
    pieces: Columns,
    text: Bytes,
    state: Row,
    spans: Columns,
    stack: Columns,
) -> None:
    """Fills all arrays from ``boxes`` on; ``stack`` has kind, number and box of what is open."""
    at, level, number, unread, piece = 0, 0, 0, 0, -1
    while at < len(data):
        if data[at] != _LT or data[at + 1] == _BANG:
            at = _chunk(data, at, piece if not unread else -1, flags, state, text, pieces)
        elif data[at + 1] == _SLASH:
            level -= 1
            unread -= unread > 0
            if not unread:
                _leave(stack[0, level], state, stack, boxes, runs, pieces, text)
            piece = stack[1, level] * 2 + 1 if level else -1
            at = _past(data, at, _GT)
        else:
            start, at = at + 1, _name_end(data, at + 1)
            name = keyed(data, start, at)
            stack[0, level], stack[1, level] = look(tags, tag_kinds, name), number
            at = _attributes(data, at, spans)
            if unread or stack[0, level] & UNREAD:
                unread += 1
            else:
                _enter(stack[0, level], state, stack, boxes, runs, pieces, text)
                if not stack[0, level] & INLINE:
                    box = state[_BOXES] - 1
                    boxes[KIND, box], boxes[AT, box] = stack[0, level], number
                    boxes[TAG, box] = np.int64(name)
                    boxes[NAME, box] = _named(data, spans, name)
                    if _any(spans):
                        boxes[CUES, box] = _cues(data, spans, words, word_bits, values, value_bits)
            piece = number * 2
            number += 1
            if data[at] == _SLASH:
                unread -= unread > 0
                if not unread:
                    _leave(stack[0, level], state, stack, boxes, runs, pieces, text)
                piece = stack[1, level] * 2 + 1 if level else -1
                at += 1
            else:
                level += 1
            at += 1


@uncounted
def _past(data: Bytes, at: int, byte: int) -> int:
    while data[at] != byte:
        at += 1
    return at + 1


@uncounted
def _name_end(data: Bytes, at: int) -> int:
    while data[at] != _GT and data[at] != _SLASH and data[at] > _BLANK:
        at += 1
    return at


@uncounted
def _attributes(data: Bytes, at: int, spans: Columns) -> int:
    """Where the tag ends; ``spans`` holds where the values of those that count stand."""
    for which in range(7):
        spans[0, which] = spans[1, which] = -1
    while data[at] != _GT and not (data[at] == _SLASH and data[at + 1] == _GT):
        start = at + 1
        at = start + 1
        while data[at] != _EQUALS:
            at += 1
        which = _which(data, start, at)
        first = at + 2
        at = _past(data, first, data[at + 1])
        if which >= 0:
            spans[0, which], spans[1, which] = first, at - 1
    return at


@uncounted
def _which(data: Bytes, start: int, stop: int) -> int:
    size, first, last = stop - start, data[start], data[stop - 1]
    if size == 5 and first == ord("c") and stands(data, start, b"class"):
        return _CLASS
    if size == 2 and first == ord("i") and last == ord("d"):
        return _ID
    if size == 4 and first == ord("r") and stands(data, start, b"role"):
        return _ROLE
    if size == 5 and first == ord("s") and stands(data, start, b"style"):
        return _STYLE
    if size == 6 and first == ord("h") and stands(data, start, b"hidden"):
        return _HIDDEN
    if size == 8 and first == ord("i") and stands(data, start, b"itemprop"):
        return _KIND
    if size == 11 and first == ord("a") and stands(data, start, b"aria-hidden"):
        return _ARIA
    return -1


@uncounted
def _cues(
    data: Bytes, spans: Columns, words: Keys, word_bits: Row, values: Keys, value_bits: Row
) -> int:
    """What class, id and the other attributes say."""
    cues, before = word_cues(data, spans[0, _CLASS], spans[1, _CLASS], words, word_bits, 0)
    more, _ = word_cues(data, spans[0, _ID], spans[1, _ID], words, word_bits, before)
    cues |= more
    if spans[0, _KIND] >= 0:
        start, stop = spans[0, _KIND], spans[1, _KIND]
        found = look(values, value_bits, keyed(data, start, stop)) if stop > start else 0
        if found and data[start] == ord("a"):
            cues |= found
        else:
            more, _ = word_cues(data, start, stop, words, word_bits, 0)
            cues |= more
    if spans[1, _ROLE] > spans[0, _ROLE]:
        found = look(values, value_bits, keyed(data, spans[0, _ROLE], spans[1, _ROLE]))
        cues |= found if data[spans[0, _ROLE]] != ord("a") else 0
    start, stop = spans[0, _STYLE], spans[1, _STYLE]
    is_hidden = spans[0, _HIDDEN] >= 0
    if spans[1, _ARIA] - spans[0, _ARIA] == 4 and stands(data, spans[0, _ARIA], b"true"):
        is_hidden = True
    if start >= 0 and holds(data, start, stop, b"none") and holds(data, start, stop, b"display"):
        is_hidden = True
    return cues | look(values, value_bits, keyed(data, 0, 0)) if is_hidden else cues


@uncounted
def _named(data: Bytes, spans: Columns, name: np.uint64) -> int:
    """A hash of tag and class."""
    start = max(spans[0, _CLASS], 0)
    own = keyed(data, start, max(spans[1, _CLASS], start))
    return np.int64(mixed(name ^ (own * np.uint64(3))))


@uncounted
def _any(spans: Columns) -> bool:
    found = False
    for which in range(7):
        found |= spans[0, which] >= 0
    return found


@uncounted
def _enter(
    kind: int,
    state: Row,
    stack: Columns,
    boxes: Columns,
    runs: Columns,
    pieces: Columns,
    text: Bytes,
) -> None:
    if not kind & INLINE:
        if state[_OPEN]:
            _close(state, stack, runs, pieces, text)
        depth, box = state[_DEPTH], state[_BOXES]
        boxes[PARENT, box] = stack[2, depth - 1] if depth else -1
        boxes[DEPTH, box], boxes[FIRST, box] = depth, state[_RUNS]
        stack[2, depth] = box
        state[_DEPTH] += 1
        state[_BOXES] += 1
    elif kind & LINK:
        state[_IN_LINK] += 1
        state[_LINKS] += 1
    elif kind & STRONG:
        state[_IN_STRONG] += 1
    elif kind & BREAK:
        state[_BREAKS] += 1
        if state[_BREAKS] > 1:
            _close(state, stack, runs, pieces, text)
        state[_OPEN] = 1
        state[_SPACED] = 1


@uncounted
def _leave(
    kind: int,
    state: Row,
    stack: Columns,
    boxes: Columns,
    runs: Columns,
    pieces: Columns,
    text: Bytes,
) -> None:
    if kind & UNREAD:
        return
    if not kind & INLINE:
        if state[_OPEN]:
            _close(state, stack, runs, pieces, text)
        state[_DEPTH] -= 1
        boxes[LAST, stack[2, state[_DEPTH]]] = state[_RUNS]
    elif kind & LINK:
        state[_IN_LINK] -= 1
    elif kind & STRONG:
        state[_IN_STRONG] -= 1


@uncounted
def _close(state: Row, stack: Columns, runs: Columns, pieces: Columns, text: Bytes) -> None:
    """End the open run; without letters it is none."""
    if state[_CHARS]:
        run = state[_RUNS]
        runs[RUN_BOX, run] = stack[2, state[_DEPTH] - 1]
        runs[CHARS, run], runs[LINKED, run] = state[_CHARS], state[_LINKED]
        runs[LINKS, run], runs[STRONG_CHARS, run] = state[_LINKS], state[_STRONG_CHARS]
        runs[START, run], runs[STOP, run] = state[_START], state[_OUT]
        text[state[_OUT]] = 10
        state[_OUT] += 1
        state[_RUNS] += 1
        state[_SINCE] = state[_PIECES]
    else:
        state[_PIECES] = state[_SINCE]
    state[_START] = state[_OUT]
    state[_CHARS] = state[_SPACED] = state[_OPEN] = 0
    state[_LINKED] = state[_STRONG_CHARS] = state[_BREAKS] = 0
    state[_LINKS] = state[_IN_LINK]


@uncounted
def _chunk(
    data: Bytes, at: int, piece: int, flags: Bytes, state: Row, text: Bytes, pieces: Columns
) -> int:
    """Reads up to the next tag, ``piece`` -1 where it is no text; gives where that stands."""
    raw = False
    read, seen, last = 0, -1, 0  # characters of this chunk: all, the first and last not blank
    chars, out, spaced = state[_CHARS], state[_OUT], state[_SPACED]
    while at < len(data):
        byte = np.int64(data[at])
        if byte == _LT and not raw:
            if data[at + 1] != _BANG:
                break
            at += 9  # <![CDATA[
            raw = True
            continue
        if raw and byte == ord("]") and data[at + 1] == ord("]") and data[at + 2] == _GT:
            at += 3
            raw = False
            continue
        if piece < 0:
            at += 1
            continue
        if byte == _AMP and not raw:
            code, size = _entity(data, at)
        else:
            code, size = decode(data, at)
        read += 1
        if flags[code] & SPACE:
            spaced = 1
        else:
            if spaced and chars:
                text[out] = _BLANK
                out += 1
                chars += 1
            spaced = 0
            chars += 1
            if seen < 0:
                seen = read - 1
            last = read
            if code < 0x80:
                text[out] = code
                out += 1
            elif byte == _AMP:
                text[out], text[out + 1], text[out + 2] = 0xEF, 0xBF, 0xBD
                out += 3
            else:
                for step in range(size):
                    text[out + step] = data[at + step]
                out += size
        at += size
    if piece >= 0 and read:
        state[_CHARS], state[_OUT], state[_SPACED], state[_OPEN] = chars, out, spaced, 1
        if seen >= 0:
            state[_BREAKS] = 0
            state[_LINKED] += last - seen if state[_IN_LINK] else 0
            state[_STRONG_CHARS] += last - seen if state[_IN_STRONG] else 0
        pieces[0, state[_PIECES]], pieces[1, state[_PIECES]] = piece, state[_RUNS]
        state[_PIECES] += 1
    return at


@uncounted
def _entity(data: Bytes, at: int) -> tuple[int, int]:
    """(code point, bytes) of what is escaped: a mark of XML, a line end, else U+FFFD.

    libxml2 writes that for the control characters that XML has no place for.
    """
    stop = _past(data, at, ord(";"))
    first = data[at + 1]
    if first == ord("l"):
        return np.int64(_LT), stop - at
    if first == ord("g"):
        return np.int64(_GT), stop - at
    if first == ord("a"):
        return np.int64(_AMP), stop - at
    if first == ord("q"):
        return np.int64(_QUOTE), stop - at
    code = np.int64(0)
    for place in range(at + 2, stop - 1):
        byte = np.int64(data[place])
        code = code * 10 + byte - 48 if 48 <= byte < 58 and code < 1000 else _REPLACEMENT
    return code if code < 0x80 else np.int64(_REPLACEMENT), stop - at
