"""Records of a WARC file of others (WARC 1.0 and 1.1): each whole one, and where there is none.

A record that is cut off, that lies about its length or does not fit its digest is given as damage
with its reason, and so is a stretch of bytes that is no record; the next record is then looked for.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from components.collect.warc.damaged_stream import Broken, Stream

_VERSION = re.compile(rb"WARC/[01]\.\d{1,2}\s*")
_NEXT = re.compile(rb"\nWARC/[01]\.\d{1,2}\r?\n")
_MAX_LINE, _MAX_LINES = 32 * 1024, 200
_MAX_LENGTH = 1 << 50


@dataclass(frozen=True)
class Record:
    """One record. ``block`` holds at most as many bytes as were asked for."""

    at: int
    """Unpacked bytes before it."""
    headers: dict[str, str]
    """Names in lower case; of several lines the first."""
    block: bytes
    is_whole: bool
    """Whether ``block`` is all of it."""

    @property
    def kind(self) -> str:
        """``response``, ``revisit``, ..."""
        return self.headers.get("warc-type", "").lower()

    @property
    def url(self) -> str:
        return self.headers.get("warc-target-uri", "").strip("<>")


@dataclass(frozen=True)
class Damage:
    """A place that no record could be read from."""

    at: int
    reason: str
    url: str = ""
    """Where it is known what should have been here."""


def read_records(stream: Stream, most: int) -> Iterator[Record | Damage]:
    """Every record, of whose block ``most`` bytes are kept; every damaged place."""
    while True:
        at = stream.at
        try:
            first = stream.line(_MAX_LINE)
            if not first:
                return
            if not first.strip():
                continue
            if not _VERSION.fullmatch(first):
                yield Damage(at, "no WARC record")
                if not _find_next(stream):
                    return
                continue
        except Broken as error:
            yield Damage(at, str(error))
            continue
        yield _record(stream, at, most)


def _find_next(stream: Stream) -> bool:
    """Read on to the line that starts a record. Raises Broken."""
    while line := stream.line(_MAX_LINE):
        if _VERSION.fullmatch(line):
            stream.put_back(line)
            return True
    return False


def _record(stream: Stream, at: int, most: int) -> Record | Damage:
    """The record whose first line was just read."""
    headers: dict[str, str] = {}
    try:
        if not _read_headers(stream, headers):
            return Damage(at, "its headers have no end")
        url = headers.get("warc-target-uri", "").strip("<>")
        given = headers.get("content-length", "")
        if not (given.isascii() and given.isdigit() and int(given) < _MAX_LENGTH):
            return Damage(at, "it does not say how long it is", url)
        length = int(given)
        block = stream.read(min(length, most))
        passed = len(block) + stream.skip(length - len(block))
        ending = _ending(stream)
    except Broken as error:
        return Damage(at, str(error), headers.get("warc-target-uri", "").strip("<>"))
    if ending:
        _give_back(stream, block if passed == len(block) else b"", ending)
        return Damage(at, "its length is wrong", url)
    if passed < length:
        _give_back(stream, block if passed == len(block) else b"", b"")
        return Damage(at, "it is cut off", url)
    if passed == len(block) and not _fits(headers.get("warc-block-digest", ""), block):
        return Damage(at, "its digest is another", url)
    return Record(at, headers, block, len(block) == length)


def _ending(stream: Stream) -> bytes:
    """What stands where two empty lines should: nothing, where the next record or the end does."""
    ending = stream.read(4).lstrip(b"\r\n")
    if ending and b"WARC".startswith(ending):  # some writers leave a line out
        stream.put_back(ending)
        return b""
    return ending


def _read_headers(stream: Stream, headers: dict[str, str]) -> bool:
    """Fill ``headers`` up to the empty line; whether there was one. Raises Broken."""
    last = ""
    for _ in range(_MAX_LINES):
        line = stream.line(_MAX_LINE)
        if not line.endswith(b"\n"):
            return False
        text = line.decode("utf-8", errors="replace").rstrip("\r\n")
        if not text:
            return True
        if text[0] in " \t" and last:  # a line that goes on
            headers[last] += f" {text.strip()}"
            continue
        name, _, value = text.partition(":")
        last = name.strip().lower()
        headers.setdefault(last, value.strip())
    return False


def _give_back(stream: Stream, block: bytes, ending: bytes) -> None:
    """Let a record that a wrong length has swallowed be found: from it on, all is read again."""
    swallowed = _NEXT.search(block)
    stream.put_back(block[swallowed.start() + 1 :] + ending if swallowed else ending)


def _fits(digest: str, block: bytes) -> bool:
    """Whether a block has the digest it is said to have; of other kinds than SHA-1, it has."""
    kind, _, value = digest.partition(":")
    if kind.lower() != "sha1" or len(value) != 32:
        return True
    sha1 = hashlib.sha1(block, usedforsecurity=False).digest()
    return base64.b32encode(sha1).decode() == value.upper()
