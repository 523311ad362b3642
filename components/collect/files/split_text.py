"""Splitting of long texts into parts, at a heading or paragraph where one is near the bound.

Equal texts give equal parts, and the parts together are the text.
"""

from __future__ import annotations

import io
import re
from bisect import bisect_left
from collections.abc import Iterator
from typing import BinaryIO

_HEADING = re.compile(rb"\n(?=#{1,6} )")
_PARAGRAPH = re.compile(rb"\n[ \t\r]*\n(?=\S)")
_LINE = re.compile(rb"\n")
_WORD = re.compile(rb"[ \t]")
_FENCE = re.compile(rb"^ {0,3}(?:```|~~~)", re.MULTILINE)
_LEAST_SHARE = 0.5
"""Share of the bound that a part has at least, as long as there is a place to split at."""


def part_address(address: str, number: int) -> str:
    """Address of a part: the text's own for the first, ``…#part-2`` for the second."""
    if number == 1:
        return address
    return f"{address}{'-' if '#' in address else '#'}part-{number}"


def split_text(body: bytes, part_bytes: int) -> Iterator[bytes]:
    """Split a text into parts of at most ``part_bytes``."""
    return split_stream(io.BytesIO(body), part_bytes)


def split_stream(stream: BinaryIO, part_bytes: int) -> Iterator[bytes]:
    """Split the text of a stream into parts of at most ``part_bytes``, as it is read."""
    rest = b""
    while True:
        while len(rest) <= part_bytes and (read := stream.read(part_bytes + 1 - len(rest))):
            rest += read
        if len(rest) <= part_bytes:
            if rest:
                yield rest
            return
        end = _find_end(rest[:part_bytes])
        yield rest[:end]
        rest = rest[end:]


def _find_end(window: bytes) -> int:
    """End of a part: behind its last heading, paragraph, line or word, outside code if it can."""
    least = int(len(window) * _LEAST_SHARE)
    fences = [match.start() for match in _FENCE.finditer(window)]
    for separator in (_HEADING, _PARAGRAPH, _LINE, _WORD):
        ends = [match.end() for match in separator.finditer(window, least)]
        # Behind an even number of fences there is no code.
        outside = (end for end in reversed(ends) if bisect_left(fences, end) % 2 == 0)
        end = next(outside, ends[-1] if ends and separator in (_LINE, _WORD) else 0)
        if end:
            return end
    end = len(window)
    while end > 1 and window[end - 1] & 0xC0 == 0x80:  # inside a character of UTF-8
        end -= 1
    return end - 1 if end > 1 and window[end - 1] >= 0xC0 else len(window)
