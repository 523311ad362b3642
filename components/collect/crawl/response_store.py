"""The durable frontier: every answer of a crawl, on disk as soon as it is there (SQLite, WAL).

What has been fetched is stored; what is to be fetched follows from it, since a crawl goes in waves
whose order depends on the answers alone. So after a kill -9 the same waves are gone through again,
each stored answer is taken from here, and none of them is asked for twice.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from components.collect.optouts.optout_policy import Signal
from components.collect.web.http_fetcher import Fetched
from components.collect.web.page_links import PageFacts

_COLUMNS = "url, status, reason, transient, headers, location, facts, carried, digest, body"
_TABLE = f"""
CREATE TABLE IF NOT EXISTS answers (
    {_COLUMNS.replace("url", "url TEXT PRIMARY KEY").replace("body", "body BLOB")}
) WITHOUT ROWID
"""


@dataclass(frozen=True)
class Carried:
    """Where a page's bytes come from when it is as it was in an earlier crawl."""

    date: str
    """When they were fetched."""
    headers: dict[str, str]
    """What came with them."""
    profile: str
    """How it is known that they are the same: ``server-not-modified`` or
    ``identical-payload-digest`` (WARC 1.1, section 6.7); empty where it is not known."""
    trouble: str = ""
    """Why it is not known: what the server said instead, or that it said nothing."""


@dataclass
class Answer:
    """One stored answer, without its body."""

    status: int = 0
    reason: str = ""
    transient: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    location: str | None = None
    facts: PageFacts = field(default_factory=PageFacts)
    carried: Carried | None = None
    bytes: int = 0
    digest: str = ""
    """sha256 of the body."""
    asked: bool = True
    """False where the page was left alone: robots.txt, the blocklist, an opt-out."""


class Spool:
    """The answers of one crawl by name: a page's is its URL."""

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

    def __len__(self) -> int:
        (count,) = self._db.execute("SELECT count(*) FROM answers").fetchone()
        return int(count)

    def put(
        self, name: str, fetched: Fetched, facts: PageFacts, carried: Carried | None = None
    ) -> Answer:
        """Store an answer."""
        row = (
            name,
            fetched.status,
            fetched.reason,
            fetched.transient,
            json.dumps(fetched.headers, sort_keys=True),
            fetched.location,
            json.dumps(asdict(facts)),
            json.dumps(asdict(carried)) if carried is not None else None,
            hashlib.sha256(fetched.body).hexdigest(),
            fetched.body,
        )
        marks = ", ".join("?" * len(row))
        self._db.execute(f"INSERT OR REPLACE INTO answers VALUES ({marks})", row)  # noqa: S608
        return _answer(*row[1:-1], len(fetched.body))

    def get(self, name: str) -> Answer | None:
        """The stored answer under ``name``."""
        row = self._db.execute(
            "SELECT status, reason, transient, headers, location, facts, carried, digest, "
            "length(body) FROM answers WHERE url = ?",
            (name,),
        ).fetchone()
        return _answer(*row) if row is not None else None

    def body(self, name: str) -> bytes:
        """The stored body under ``name``."""
        row = self._db.execute("SELECT body FROM answers WHERE url = ?", (name,)).fetchone()
        return bytes(row[0])

    def forget_transient(self) -> None:
        """Drop failures that may pass, so that the next try asks again."""
        self._db.execute("DELETE FROM answers WHERE transient = 1")


def _answer(
    status: int,
    reason: str,
    transient: int,
    headers: str,
    location: str | None,
    facts: str,
    carried: str | None,
    digest: str,
    size: int,
) -> Answer:
    read = json.loads(facts)
    signals = [Signal(**signal) for signal in read.pop("signals")]
    return Answer(
        status,
        reason,
        bool(transient),
        json.loads(headers),
        location,
        PageFacts(**read, signals=signals),
        Carried(**json.loads(carried)) if carried is not None else None,
        size,
        digest,
    )
