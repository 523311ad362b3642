"""Every answer of a crawl, on disk as soon as it is there (SQLite, write-ahead log).

After a kill -9 the crawl asks here first, so a stored page is never fetched again.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from components.collect.fetch import Fetched

_TABLE = """
CREATE TABLE IF NOT EXISTS answers (
    url TEXT PRIMARY KEY, status INTEGER, reason TEXT, transient INTEGER, headers TEXT,
    location TEXT, links TEXT, digest TEXT, body BLOB
) WITHOUT ROWID
"""


@dataclass
class Answer:
    """One stored answer, without its body."""

    status: int = 0
    reason: str = ""
    transient: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    links: list[str] = field(default_factory=list)
    """Where the page's links lead, each once, in their order."""
    bytes: int = 0
    digest: str = ""
    """sha256 of the body."""
    asked: bool = True
    """False where the page was left alone: robots.txt, the blocklist."""


class Spool:
    """The answers of one crawl by URL."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute(_TABLE)

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._db.close()

    def put(self, url: str, fetched: Fetched, links: list[str]) -> Answer:
        """Store an answer."""
        digest = hashlib.sha256(fetched.body).hexdigest()
        answer = Answer(
            fetched.status,
            fetched.reason,
            fetched.transient,
            fetched.headers,
            fetched.location,
            links,
            len(fetched.body),
            digest,
        )
        self._db.execute(
            "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                url,
                answer.status,
                answer.reason,
                answer.transient,
                json.dumps(answer.headers, sort_keys=True),
                answer.location,
                json.dumps(links),
                digest,
                fetched.body,
            ),
        )
        return answer

    def get(self, url: str) -> Answer | None:
        """The stored answer for ``url``."""
        row = self._db.execute(
            "SELECT status, reason, transient, headers, location, links, length(body), digest "
            "FROM answers WHERE url = ?",
            (url,),
        ).fetchone()
        if row is None:
            return None
        status, reason, transient, headers, location, links, size, digest = row
        return Answer(
            status,
            reason,
            bool(transient),
            json.loads(headers),
            location,
            json.loads(links),
            size,
            digest,
        )

    def body(self, url: str) -> bytes:
        """The stored body for ``url``."""
        row = self._db.execute("SELECT body FROM answers WHERE url = ?", (url,)).fetchone()
        return bytes(row[0])

    def urls(self) -> Iterator[str]:
        """URLs with an answer, sorted."""
        rows = self._db.execute("SELECT url FROM answers ORDER BY url")
        return (str(row[0]) for row in rows)

    def forget_transient(self) -> None:
        """Drop failures that may pass, so that the next try asks again."""
        self._db.execute("DELETE FROM answers WHERE transient = 1")
