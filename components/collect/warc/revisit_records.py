"""Resolution of revisit records in third-party archives, which leave an unchanged page out.

A revisit record (WARC 1.1, section 6.7) names its original by record (``WARC-Refers-To``), by
address and date (``WARC-Refers-To-Target-URI``, ``-Date``) or by payload digest. The original may
lie behind it, or in another file. So all archives are scanned once for the names that are wanted;
while their pages are read, wanted ones are stored on disk; when all are read, the revisit records
are resolved to pages.
"""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from components.collect.warc.page_shards import WebPage, payload_digest
from components.collect.warc.warc_records import ArchiveRecord

_EMPTY_DIGEST = payload_digest(b"")
"""Digest of an empty payload, which some writers give for a 304; it identifies nothing."""


@dataclass(frozen=True)
class RevisitRecord:
    """One revisit record, with the names by which it can be resolved."""

    url: str
    place: str
    """File and offset, for reasons."""
    date: str
    own_names: tuple[str, ...]
    """Names by which other revisit records may refer to it."""
    referred_names: tuple[str, ...]
    """Names of its original, the surest first."""
    digest: str
    """Payload digest, equal to the original's; empty where it has none."""
    headers: Mapping[str, str]
    """HTTP headers of this response."""


@dataclass(frozen=True)
class UnresolvedRevisit:
    """A revisit record that gives no page, with the reason."""

    revisit: RevisitRecord
    reason: str


@dataclass(frozen=True)
class _OriginalRecord:
    """Original of revisit records, its body on disk; ``page`` is None for one that is no page."""

    page: WebPage | None
    digest: str
    start: int = 0
    length: int = 0


@dataclass
class RevisitResolver:
    """Revisit records of all archives of a run, and their originals."""

    folder: Path
    """Folder of a temporary file with the bodies of originals."""
    _wanted: set[str] = field(default_factory=set)
    _originals: dict[str, _OriginalRecord] = field(default_factory=dict)
    _deferred: list[RevisitRecord] = field(default_factory=list)
    _file: IO[bytes] | None = None

    def note_wanted(self, record: ArchiveRecord) -> None:
        """Note the names that a record refers to; to be called with all records first."""
        if record.kind == "revisit":
            self._wanted.update(_referred_names(record))

    def defer_revisit(
        self, record: ArchiveRecord, place: str, date: str, headers: Mapping[str, str]
    ) -> None:
        """Defer a revisit record until all archives are read.

        Args:
            record: The record.
            place: File and offset, for reasons.
            date: Its date.
            headers: HTTP headers of its response.
        """
        digest = _normalise_digest(record.headers.get("warc-payload-digest", ""))
        digest = "" if digest == _normalise_digest(_EMPTY_DIGEST) else digest
        own, refers = tuple(_own_names(record)), tuple(_referred_names(record))
        self._deferred.append(RevisitRecord(record.url, place, date, own, refers, digest, headers))

    def offer_record(self, record: ArchiveRecord, page: WebPage | None) -> None:
        """Store a record that a revisit record refers to; ``page`` is None where it gave none."""
        stated_digest = _normalise_digest(record.headers.get("warc-payload-digest", ""))
        names = _own_names(record)
        if self._wanted and page is not None:
            digests = {stated_digest, _normalise_digest(payload_digest(page.body))} - {""}
            names += sorted(f"payload {digest}" for digest in digests)
        names = [name for name in names if name in self._wanted and name not in self._originals]
        if names:
            original = self._store_original(page, stated_digest)
            self._originals.update(dict.fromkeys(names, original))

    def resolve_pages(self) -> Iterator[WebPage | UnresolvedRevisit]:
        """Resolve the deferred revisit records, in their order, when all archives are read."""
        originals = self._resolve()
        for index, revisit in enumerate(self._deferred):
            original = originals.get(index)
            if original is None:
                has_other_digest = any(name in self._originals for name in revisit.referred_names)
                yield UnresolvedRevisit(revisit, _unresolved_reason(revisit, has_other_digest))
            elif original.page is None:
                yield UnresolvedRevisit(revisit, "a revisit of a record that is no page")
            else:
                yield _revisited_page(revisit, original.page, self._load_body(original))

    def _resolve(self) -> dict[int, _OriginalRecord]:
        """Originals by index of the revisit record, also through other revisit records."""
        originals: dict[int, _OriginalRecord] = {}
        unresolved = list(range(len(self._deferred)))
        while True:
            for index in unresolved:
                revisit = self._deferred[index]
                candidates = (
                    self._originals[name]
                    for name in revisit.referred_names
                    if name in self._originals
                )
                match = next(
                    (original for original in candidates if _digests_agree(revisit, original)), None
                )
                if match is not None:
                    originals[index] = match
                    for name in revisit.own_names:
                        self._originals.setdefault(name, match)
            still_unresolved = [index for index in unresolved if index not in originals]
            if len(still_unresolved) == len(unresolved):
                return originals
            unresolved = still_unresolved

    def _store_original(self, page: WebPage | None, digest: str) -> _OriginalRecord:
        if page is None:
            return _OriginalRecord(None, digest)
        if self._file is None:
            self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115
        start = self._file.seek(0, 2)
        self._file.write(page.body)
        return _OriginalRecord(replace(page, body=b""), digest, start, len(page.body))

    def _load_body(self, original: _OriginalRecord) -> bytes:
        assert self._file is not None
        self._file.seek(original.start)
        return self._file.read(original.length)


def _revisited_page(revisit: RevisitRecord, original: WebPage, body: bytes) -> WebPage:
    """Page of a revisit record, its stored headers freshened (RFC 9111, section 4.3.4).

    An original at the same URL keeps its date, as its bytes are that old.
    """
    headers = tuple(sorted({**dict(original.headers), **revisit.headers}.items()))
    content_type = dict(headers).get("content-type", original.content_type)
    date = original.date if revisit.url == original.url else revisit.date
    return replace(
        original, url=revisit.url, body=body, content_type=content_type, headers=headers, date=date
    )


def _unresolved_reason(revisit: RevisitRecord, has_other_digest: bool) -> str:
    if not revisit.referred_names:
        return "a revisit that does not say of what"
    if has_other_digest:
        return "a revisit of a record whose payload has another digest"
    return f"a revisit of a record that none of the files holds: {revisit.referred_names[0]}"


def _digests_agree(revisit: RevisitRecord, original: _OriginalRecord) -> bool:
    """True unless both have a digest of one algorithm, and the two differ."""
    digest, original_digest = revisit.digest, original.digest
    same_algorithm = digest.partition(":")[0] == original_digest.partition(":")[0]
    return not (digest and original_digest and same_algorithm) or digest == original_digest


def _own_names(record: ArchiveRecord) -> list[str]:
    """Names by which a revisit record may refer to this record."""
    identifier = record.headers.get("warc-record-id", "").strip("<>")
    moment = record.headers.get("warc-date", "")[:19]
    names = [f"record {identifier}"] if identifier else []
    return [*names, f"{record.url} of {moment}"] if record.url and moment else names


def _referred_names(record: ArchiveRecord) -> list[str]:
    """Names of the original that a revisit record refers to, the surest first."""
    headers = record.headers
    identifier = headers.get("warc-refers-to", "").strip("<>")
    url = headers.get("warc-refers-to-target-uri", "").strip("<>")
    moment = headers.get("warc-refers-to-date", "")[:19]
    digest = _normalise_digest(headers.get("warc-payload-digest", ""))
    names = [f"record {identifier}"] if identifier else []
    names += [f"{url} of {moment}"] if url and moment else []
    return (
        [*names, f"payload {digest}"]
        if digest and digest != _normalise_digest(_EMPTY_DIGEST)
        else names
    )


def _normalise_digest(digest: str) -> str:
    """Digest in one spelling: SHA-1 may be given in hexadecimal or in base 32."""
    algorithm, _, value = digest.strip().lower().partition(":")
    if not value:
        return ""
    algorithm = algorithm.replace("-", "")
    if algorithm == "sha1" and len(value) == 40:
        try:
            value = base64.b32encode(bytes.fromhex(value)).decode().lower()
        except ValueError:
            return ""
    return f"{algorithm}:{value}"
