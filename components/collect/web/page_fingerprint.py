"""Fingerprint of a page's text: a sample of its word sequences, and a digest of its numbers.

Two pages of a crawl trap differ in their addresses alone, or in what follows from these: a calendar
shows the month that its address names, a search lists again what other pages have. So the text is
fingerprinted without what its address says. Words and numbers are told apart since numbers alone
may be a page's content (a table of another year) or noise (a counter, a clock).
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

SHINGLE_TOKENS = 4
"""Consecutive words that count as one feature: two or three recur in texts of any kind."""
SKETCH_SIZE = 256
"""Shingles kept of a page, those of the least hashes (a bottom-k sketch, Broder 1997): all of a
page of a few paragraphs, and of a long one enough to hit a new sentence in an old frame."""
MIN_NUMBERS = 4
"""Numbers of a page, from which they can be its content: a date or a clock has up to three."""
_MIN_RANGE = 3
"""Consecutive integers that are no data: days of a month, numbers of pages or lines."""
_YEARS = range(1900, 2200)
"""Integers that name a year, which a calendar without end counts up."""
_TOKEN = re.compile(r"\d+(?:[.,:]\d+)*|[^\W\d_]+")
_ADDRESS_PART = re.compile(r"[^\W_]+")
_NUMBER_MARK = "0"


@dataclass(frozen=True)
class PageFingerprint:
    """Features of one page's text; two pages of equal text at equal addresses have equal ones."""

    words: list[int] = field(default_factory=list)
    """Hashes of 32 bits of word shingles, ascending; numbers count as one word, whichever."""
    numbers: str = ""
    """Digest of the sequence of numbers; empty where there are too few to be content."""

    @property
    def digest(self) -> str:
        """Digest of both."""
        text = " ".join([*map(str, self.words), self.numbers])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def fingerprint_page(text: str, url: str) -> PageFingerprint:
    """Fingerprint a page's visible text without what its address says."""
    address_words, address_numbers = _read_address(url)
    sequence: list[str] = []
    numbers: list[str] = []
    for token in _TOKEN.findall(text.lower()):
        if not token[0].isdecimal():
            sequence.append("" if token in address_words else token)
        else:
            numbers.append(token)
            if sequence[-1:] != [_NUMBER_MARK]:
                sequence.append(_NUMBER_MARK)
    hashes = {zlib.crc32(shingle.encode()) for shingle in _shingles(sequence)}
    return PageFingerprint(sorted(hashes)[:SKETCH_SIZE], _digest_numbers(numbers, address_numbers))


def _shingles(sequence: list[str]) -> Iterator[str]:
    """Windows of the sequence without a token of the address, which is the empty string."""
    for start in range(max(1, len(sequence) - SHINGLE_TOKENS + 1)):
        window = sequence[start : start + SHINGLE_TOKENS]
        if window and "" not in window:
            yield " ".join(window)


def _read_address(url: str) -> tuple[set[str], set[int]]:
    """Words of an address, and its numbers with their neighbours, to which its page may link.

    Six and eight digits may be a date in any order, of which a page shows the parts.
    """
    parts = urlsplit(url)
    words: set[str] = set()
    numbers: set[int] = set()
    for part in _ADDRESS_PART.findall(unquote(f"{parts.path} {parts.query}").lower()):
        if part.isalpha():
            words.add(part)
        elif part.isdecimal():
            pieces = {part[:18]}
            if len(part) in (6, 8):
                pieces |= {part[:4], part[-4:], part[:2], part[2:4], part[4:6], part[-2:]}
            numbers |= {int(piece) + step for piece in pieces for step in (-1, 0, 1)}
    return words, numbers


def _digest_numbers(tokens: list[str], address_numbers: set[int]) -> str:
    # Twice: without the days of a month, the numbers of its weeks follow each other.
    tokens = _drop_ranges(_drop_ranges(tokens))
    numbers = [token for token in tokens if not _says_nothing(token, address_numbers)]
    if len(numbers) < MIN_NUMBERS:
        return ""
    return hashlib.sha256(" ".join(numbers).encode()).hexdigest()[:16]


def _drop_ranges(tokens: list[str]) -> list[str]:
    """Numbers without runs of consecutive integers."""
    numbers: list[str] = []
    run: list[str] = []
    for token in [*tokens, ""]:
        follows = run and token.isdecimal() and int(token[:18]) == int(run[-1][:18]) + 1
        if not follows:
            numbers += run if len(run) < _MIN_RANGE else []
            run = []
        if token.isdecimal():
            run.append(token)
        elif token:
            numbers.append(token)
    return numbers


def _says_nothing(token: str, address_numbers: set[int]) -> bool:
    """True for a number of the page's address, and for a year."""
    if not token.isdecimal():
        return False
    number = int(token[:18])
    return number in address_numbers or (len(token) == 4 and number in _YEARS)
