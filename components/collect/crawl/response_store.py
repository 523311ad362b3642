"""Durable response store of a crawl: every response is on disk as soon as it comes (SQLite, WAL).

The store is the crawl's frontier too: what is to be fetched follows from what was, since the order
of the waves depends on the responses alone. After a kill -9 the crawl goes through the same waves,
takes each stored response from here, and requests none of them twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from components.collect.optouts.optout_policy import OptoutSignal
from components.collect.web.http_fetcher import FetchResult
from components.collect.web.page_fingerprint import PageFingerprint
from components.collect.web.page_links import PageFacts

_COLUMNS = (
    "url, status, reason, transient, headers, location, facts, carried, note, cookies, requests, "
    "digest, body"
)
_TABLE = f"""
CREATE TABLE IF NOT EXISTS answers (
    {_COLUMNS.replace("url", "url TEXT PRIMARY KEY").replace("body", "body BLOB")}
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class PreviousCapture:
    """Capture of an unchanged or unreachable page in an earlier crawl, whose bytes are reused."""

    date: str
    """Moment of the capture."""
    headers: dict[str, str]
    """HTTP headers of the capture."""
    profile: str
    """Evidence that the page is unchanged: ``server-not-modified`` or
    ``identical-payload-digest`` (WARC 1.1, section 6.7); empty where there is none."""
    trouble: str = ""
    """Why there is no evidence: the server's failure."""


@dataclass
class StoredResponse:
    """One stored response, without its body."""

    status: int = 0
    reason: str = ""
    transient: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    facts: PageFacts = field(default_factory=PageFacts)
    previous_capture: PreviousCapture | None = None
    note: str = ""
    cookies: tuple[str, ...] = field(default=(), repr=False)
    bytes: int = 0
    digest: str = ""
    """sha256 of the body."""
    requests: int = 1
    """Requests that the page took, retries not counted: more than one behind a cookie wall."""
    asked: bool = True
    """False where the page was not requested: robots.txt, the blocklist, an opt-out."""


class ResponseStore:
    """Responses of one crawl by key; a page's key is its URL."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_TABLE)

    def __enter__(self) -> ResponseStore:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def store_response(
        self,
        key: str,
        fetched: FetchResult,
        facts: PageFacts,
        capture: PreviousCapture | None = None,
    ) -> StoredResponse:
        """Store a response, replacing an earlier one under the key.

        Args:
            key: The page's URL, or the name of a file about a site.
            fetched: The response, with its body.
            facts: What the crawl needs of the page.
            capture: The earlier capture that it stands for, None for none.
        """
        row = (
            key,
            fetched.status,
            fetched.reason,
            fetched.transient,
            json.dumps(fetched.headers, sort_keys=True),
            fetched.location,
            json.dumps(asdict(facts)),
            json.dumps(asdict(capture)) if capture is not None else None,
            fetched.note,
            json.dumps(fetched.cookies),
            fetched.requests,
            hashlib.sha256(fetched.body).hexdigest(),
            fetched.body,
        )
        placeholders = ", ".join("?" * len(row))
        self._db.execute(f"INSERT OR REPLACE INTO answers VALUES ({placeholders})", row)  # noqa: S608
        return _stored_response(*row[1:-1], len(fetched.body))

    def note_requests(self, key: str, count: int) -> None:
        """Note how many requests a stored response took."""
        self._db.execute("UPDATE answers SET requests = ? WHERE url = ?", (count, key))

    def load_response(self, key: str) -> StoredResponse | None:
        """Response stored under ``key``; None for none."""
        row = self._db.execute(
            "SELECT status, reason, transient, headers, location, facts, carried, note, cookies, "
            "requests, digest, length(body) FROM answers WHERE url = ?",
            (key,),
        ).fetchone()
        return _stored_response(*row) if row is not None else None

    def load_body(self, key: str) -> bytes:
        """Body stored under ``key``."""
        row = self._db.execute("SELECT body FROM answers WHERE url = ?", (key,)).fetchone()
        return bytes(row[0])

    def forget_transient(self) -> None:
        """Delete transient failures, so that the next try requests those pages again."""
        self._db.execute("DELETE FROM answers WHERE transient = 1")


def _stored_response(
    status: int,
    reason: str,
    transient: int,
    headers: str,
    location: str | None,
    facts: str,
    capture: str | None,
    note: str,
    cookies: str,
    requests: int,
    digest: str,
    size: int,
) -> StoredResponse:
    fact_fields = json.loads(facts)
    signals = [OptoutSignal(**signal) for signal in fact_fields.pop("signals")]
    fingerprint = PageFingerprint(**fact_fields.pop("fingerprint"))
    return StoredResponse(
        status,
        reason,
        bool(transient),
        json.loads(headers),
        location,
        PageFacts(**fact_fields, fingerprint=fingerprint, signals=signals),
        PreviousCapture(**json.loads(capture)) if capture is not None else None,
        note,
        tuple(json.loads(cookies)),
        size,
        digest,
        requests,
    )
