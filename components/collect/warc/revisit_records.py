"""Revisits in archives of others: records that say "as before" and leave the page out.

A revisit (WARC 1.1, section 6.7) names what it stands for by record (``WARC-Refers-To``), by
address and moment (``WARC-Refers-To-Target-URI``, ``-Date``) or by payload digest. What it names
may lie behind it, or in another file. So archives are gone through once to learn what is wanted;
while their pages are read, wanted ones are put aside on disk; when all are read, revisits become
pages.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from components.collect.warc.page_shards import WebPage, payload_digest
from components.collect.warc.warc_records import Record

_NOTHING = payload_digest(b"")
"""Of a 304, some writers give the digest of its own empty payload."""


@dataclass(frozen=True)
class Revisit:
    """One revisit, and by what it can be resolved."""

    url: str
    place: str
    """The file, and where in it."""
    date: str
    own: tuple[str, ...]
    """Names that others may refer to it by."""
    refers: tuple[str, ...]
    """Names of what it stands for, the surest first."""
    digest: str
    """Of the payload, as both have it; empty where it does not say."""
    headers: Mapping[str, str]
    """What came with this answer."""


@dataclass(frozen=True)
class Unresolved:
    """A revisit that no page comes of, and why."""

    revisit: Revisit
    reason: str


@dataclass(frozen=True)
class _Original:
    """A record that a revisit stands for; its body is on disk. No page where ``page`` is None."""

    page: WebPage | None
    digest: str
    start: int = 0
    length: int = 0


@dataclass
class Revisits:
    """Revisits of all archives of a run, and the records that they stand for."""

    folder: Path
    """Where wanted pages are put aside; nothing stays there."""
    _wanted: set[str] = field(default_factory=set)
    _found: dict[str, _Original] = field(default_factory=dict)
    _waiting: list[Revisit] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def expect(self, record: Record) -> None:
        """Learn from a record what is wanted; to be done with all before any is offered."""
        if record.kind == "revisit":
            self._wanted.update(_refers(record))

    def defer(self, record: Record, place: str, date: str, headers: Mapping[str, str]) -> None:
        """Take in a revisit that was met."""
        digest = _digest(record.headers.get("warc-payload-digest", ""))
        digest = "" if digest == _digest(_NOTHING) else digest
        own, refers = tuple(_own(record)), tuple(_refers(record))
        self._waiting.append(Revisit(record.url, place, date, own, refers, digest, headers))

    def offer(self, record: Record, page: WebPage | None) -> None:
        """Put a record aside where a revisit wants it; None for one that gave no page."""
        said = _digest(record.headers.get("warc-payload-digest", ""))
        names = _own(record)
        if self._wanted and page is not None:
            digests = {said, _digest(payload_digest(page.body))} - {""}
            names += sorted(f"payload {digest}" for digest in digests)
        names = [name for name in names if name in self._wanted and name not in self._found]
        if names:
            original = self._kept(page, said)
            self._found.update(dict.fromkeys(names, original))

    def pages(self) -> Iterator[WebPage | Unresolved]:
        """What the revisits give, in their order; to be asked when all was offered."""
        found = self._resolve()
        for at, revisit in enumerate(self._waiting):
            original = found.get(at)
            if original is None:
                is_other = any(name in self._found for name in revisit.refers)
                yield Unresolved(revisit, _why_not(revisit, is_other))
            elif original.page is None:
                yield Unresolved(revisit, "a revisit of a record that is no page")
            else:
                yield _page(revisit, original.page, self._body(original))

    def _resolve(self) -> dict[int, _Original]:
        """What each one stands for; a revisit of a revisit stands for what that one does."""
        found: dict[int, _Original] = {}
        left = list(range(len(self._waiting)))
        while True:
            for at in left:
                revisit = self._waiting[at]
                known = (self._found[name] for name in revisit.refers if name in self._found)
                fitting = next((original for original in known if _fits(revisit, original)), None)
                if fitting is not None:
                    found[at] = fitting
                    for name in revisit.own:
                        self._found.setdefault(name, fitting)
            still = [at for at in left if at not in found]
            if len(still) == len(left):
                return found
            left = still

    def _kept(self, page: WebPage | None, digest: str) -> _Original:
        if page is None:
            return _Original(None, digest)
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        start = self._file.seek(0, 2)
        self._file.write(page.body)
        return _Original(replace(page, body=b""), digest, start, len(page.body))

    def _body(self, original: _Original) -> bytes:
        assert self._file is not None
        self._file.seek(original.start)
        return self._file.read(original.length)


def _page(revisit: Revisit, original: WebPage, body: bytes) -> WebPage:
    """The page that a revisit stands for, with its headers freshened (RFC 9111, section 4.3.4).

    Where it was at the same address, its bytes are as old as they were.
    """
    headers = tuple(sorted({**dict(original.headers), **revisit.headers}.items()))
    kind = dict(headers).get("content-type", original.content_type)
    date = original.date if revisit.url == original.url else revisit.date
    return replace(
        original, url=revisit.url, body=body, content_type=kind, headers=headers, date=date
    )


def _why_not(revisit: Revisit, is_other: bool) -> str:
    if not revisit.refers:
        return "a revisit that does not say of what"
    if is_other:
        return "a revisit of a record whose payload has another digest"
    return f"a revisit of a record that none of the files holds: {revisit.refers[0]}"


def _fits(revisit: Revisit, original: _Original) -> bool:
    """Whether the digests agree, where both are said in one way."""
    mine, other = revisit.digest, original.digest
    same_way = mine.partition(":")[0] == other.partition(":")[0]
    return not (mine and other and same_way) or mine == other


def _own(record: Record) -> list[str]:
    """Names of a record."""
    identifier = record.headers.get("warc-record-id", "").strip("<>")
    moment = record.headers.get("warc-date", "")[:19]
    names = [f"record {identifier}"] if identifier else []
    return [*names, f"{record.url} of {moment}"] if record.url and moment else names


def _refers(record: Record) -> list[str]:
    """Names of what a revisit stands for."""
    headers = record.headers
    identifier = headers.get("warc-refers-to", "").strip("<>")
    url = headers.get("warc-refers-to-target-uri", "").strip("<>")
    moment = headers.get("warc-refers-to-date", "")[:19]
    digest = _digest(headers.get("warc-payload-digest", ""))
    found = [f"record {identifier}"] if identifier else []
    found += [f"{url} of {moment}"] if url and moment else []
    return [*found, f"payload {digest}"] if digest and digest != _digest(_NOTHING) else found


def _digest(given: str) -> str:
    """A digest in one spelling; SHA-1 may be in hexadecimal or in base 32."""
    kind, _, value = given.strip().lower().partition(":")
    if not value:
        return ""
    kind = kind.replace("-", "")
    if kind == "sha1" and len(value) == 40:
        try:
            value = base64.b32encode(bytes.fromhex(value)).decode().lower()
        except ValueError:
            return ""
    return f"{kind}:{value}"
