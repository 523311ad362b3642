"""The crawl: from seeds and sitemaps along links, in waves.

A wave is all pages at one distance from the seeds. Its pages are fetched side by side, and the next
wave is made from their links in the order of the wave, whichever answered first. So which pages are
fetched depends on the sites alone, and after a kill the same waves are gone through again, with
every stored answer taken from the spool.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from components.collect.fetch import Fetched, Fetcher
from components.collect.pagelinks import read_links
from components.collect.robots import Rules, forbids_indexing, read_rules, read_sitemaps
from components.collect.spool import Answer, Spool
from components.collect.urls import host_of, origin
from components.core.blocklist import Blocklist
from components.core.progress import Progress

MAX_WAIT_SECONDS = 120.0
"""A server that asks to be left alone for longer is asked no more."""
BLOCKED = "on the blocklist"
"""The ledger's reason for a page that was not to be fetched."""


@dataclass(frozen=True)
class Manners:
    """Bounds of a crawl and how it treats a host."""

    agent: str
    max_pages: int
    max_depth: int
    max_redirects: int
    concurrency: int
    delay_seconds: float
    retries: int
    backoff_seconds: float
    blocklist: Blocklist


@dataclass(frozen=True)
class Visit:
    """A page to be fetched."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """The redirects that led here, first to last."""
    is_seed: bool = False


@dataclass
class Entry:
    """One line of the fetch ledger."""

    url: str
    status: int = 0
    reason: str = ""
    bytes: int = 0
    digest: str = ""
    etag: str = ""
    last_modified: str = ""
    redirected_from: str = ""
    failed: bool = False
    """Whether the page should have come and did not."""

    def row(self) -> dict[str, Any]:
        """As a row of ``ledger.parquet``."""
        return {name: value for name, value in vars(self).items() if name != "failed"}


@dataclass
class _Gate:
    """Keeps to one host's pace."""

    slots: asyncio.Semaphore
    delay: float
    free_at: float = 0.0

    async def __aenter__(self) -> None:
        await self.slots.acquire()
        now = time.monotonic()
        start = max(now, self.free_at)
        self.free_at = start + self.delay
        if start > now:
            await asyncio.sleep(start - now)

    async def __aexit__(self, *_: object) -> None:
        self.slots.release()


@dataclass
class Crawl:
    """One crawl over a spool. ``hosts`` bounds it; redirects of seeds may add to them."""

    fetcher: Fetcher
    spool: Spool
    manners: Manners
    hosts: set[str]
    progress: Progress
    ledger: dict[str, Entry] = field(default_factory=dict)
    _rules: dict[str, Rules] = field(default_factory=dict)
    _gates: dict[str, _Gate] = field(default_factory=dict)

    async def run(self, seeds: Sequence[str]) -> Mapping[str, Entry]:
        """Crawl, and give the ledger by URL."""
        wave = [Visit(url, 0, is_seed=True) for url in dict.fromkeys(seeds)]
        known = {visit.url for visit in wave}
        fetched = 0
        while wave:
            wave = wave[: self.manners.max_pages - fetched]
            fetched += len(wave)
            self.progress.start(fetched, "pages", done=fetched - len(wave))
            await self._read_all_rules(wave)
            answers = await asyncio.gather(*(self._visit(visit) for visit in wave))
            following: list[Visit] = []
            for visit, answer in zip(wave, answers, strict=True):
                following.extend(self._settle(visit, answer, known))
            for url in await self._sitemap_urls(wave):
                following.extend(self._next(url, 1, known))
            wave = following
        return self.ledger

    def _settle(self, visit: Visit, answer: Answer, known: set[str]) -> list[Visit]:
        """Enter an answer into the ledger; where it leads."""
        first = visit.chain[0] if visit.chain else ""
        entry = self.ledger[visit.url] = Entry(
            visit.url,
            answer.status,
            answer.reason,
            answer.bytes,
            answer.digest if answer.bytes else "",
            answer.headers.get("etag", ""),
            answer.headers.get("last-modified", ""),
            first,
            failed=answer.asked and bool(answer.reason) and not 0 < answer.status < 400,
        )
        if answer.location is not None and not answer.reason:
            return self._redirect(visit, answer.location, entry, known)
        if not answer.reason:
            if forbids_indexing(answer.headers.get("x-robots-tag", "")):
                entry.reason = "its robots directives forbid indexing"
            elif answer.bytes == 0:
                entry.reason = "an empty page"
        return [
            following
            for url in answer.links
            for following in self._next(url, visit.depth + 1, known)
        ]

    def _redirect(self, visit: Visit, target: str, entry: Entry, known: set[str]) -> list[Visit]:
        chain = (*visit.chain, visit.url)
        entry.reason = f"redirects to {target}"
        if target in chain:
            entry.reason, entry.failed = "redirects in a loop", True
            return []
        if len(chain) > self.manners.max_redirects:
            limit = self.manners.max_redirects
            entry.reason, entry.failed = f"more than {limit} redirects", True
            return []
        if visit.is_seed:
            self.hosts.add(host_of(target))
        return self._next(target, visit.depth, known, chain, is_seed=visit.is_seed)

    def _next(
        self,
        url: str,
        depth: int,
        known: set[str],
        chain: tuple[str, ...] = (),
        *,
        is_seed: bool = False,
    ) -> list[Visit]:
        """A visit to ``url``, where it is new and within bounds."""
        if url in known or depth > self.manners.max_depth or host_of(url) not in self.hosts:
            return []
        known.add(url)
        return [Visit(url, depth, chain, is_seed)]

    async def _visit(self, visit: Visit) -> Answer:
        answer = self._forbidden(visit.url)
        if answer is None:
            answer = await self._stored(visit.url)
        self.progress.advance(note=host_of(visit.url))
        return answer

    def _forbidden(self, url: str) -> Answer | None:
        if self.manners.blocklist.covers(url):
            return Answer(reason=BLOCKED, asked=False)
        rules = self._rules[origin(url)]
        if rules.forbids(url, self.manners.agent):
            return Answer(reason=rules.reason, asked=rules.protego is None)
        return None

    async def _stored(self, url: str, *, any_text: bool = False) -> Answer:
        answer = self.spool.get(url)
        if answer is None:
            fetched = await self._persistently(url, any_text)
            links: list[str] = []
            if fetched.body and not any_text:
                links, directives = read_links(fetched.body, url, fetched.headers)
                if directives:
                    fetched.headers["x-robots-tag"] = directives
            answer = self.spool.put(url, fetched, links)
        return answer

    async def _persistently(self, url: str, any_text: bool) -> Fetched:
        """Fetch at the host's pace, and again when that may help."""
        wait = self.manners.backoff_seconds
        for left in range(self.manners.retries, -1, -1):
            async with self._gate(url):
                fetched = await self.fetcher.get(url, any_text=any_text)
            if not fetched.transient or left == 0:
                break
            asked = fetched.wait_seconds or 0.0
            if asked > MAX_WAIT_SECONDS:
                fetched.reason += f", and asks to be left alone for {asked:.0f} s"
                break
            await asyncio.sleep(max(wait, asked))
            wait = min(wait * 2, MAX_WAIT_SECONDS)
        return fetched

    def _gate(self, url: str) -> _Gate:
        host = host_of(url)
        if host not in self._gates:
            rules = self._rules.get(origin(url))
            delay = max(self.manners.delay_seconds, rules.delay(self.manners.agent) if rules else 0)
            # One request after another where a pause is asked for.
            slots = 1 if delay else self.manners.concurrency
            self._gates[host] = _Gate(asyncio.Semaphore(slots), delay)
        return self._gates[host]

    async def _get_text(self, url: str) -> Fetched:
        """A robots.txt or sitemap, with its body."""
        answer = await self._stored(url, any_text=True)
        return Fetched(answer.status, answer.reason, self.spool.body(url), location=answer.location)

    async def _read_all_rules(self, wave: Sequence[Visit]) -> None:
        """Learn the rules of every site that a wave meets for the first time."""
        new = dict.fromkeys(origin(visit.url) for visit in wave)
        starts = [start for start in new if start not in self._rules]
        rules = await asyncio.gather(*(read_rules(f"{s}/", self._get_text) for s in starts))
        self._rules.update(zip(starts, rules, strict=True))
        for start in starts:
            self._gates.pop(host_of(f"{start}/"), None)  # the next one knows the asked delay

    async def _sitemap_urls(self, wave: Sequence[Visit]) -> list[str]:
        """Pages named by the sitemaps of the seeds' sites."""
        urls: list[str] = []
        for start in dict.fromkeys(origin(visit.url) for visit in wave if visit.is_seed):
            rules = self._rules[start]
            if rules.protego is not None:
                limit = self.manners.max_pages
                urls += await read_sitemaps(f"{start}/", rules, self._get_text, limit)
        return urls
