"""Asks for pages politely: at each host's pace, by its rules, again where that helps, never twice.

Every answer goes through the spool, under the page's address; texts about a site (robots.txt,
sitemaps, opt-outs) have names of their own there, since a site may link to them as pages.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from components.collect.crawl.fetch_ledger import BLOCKED
from components.collect.crawl.host_rate_limiter import MAX_WAIT_SECONDS, Gate
from components.collect.crawl.previous_crawl import Earlier
from components.collect.crawl.response_store import Answer, Carried, Spool
from components.collect.crawl.robots_rules import Rules, get_text, read_rules
from components.collect.crawl.sitemaps import read_sitemaps
from components.collect.optouts.optout_policy import OptoutConfig, Signal, refusal
from components.collect.optouts.site_signals import MAX_BYTES, SiteSignals, read_site
from components.collect.web.http_fetcher import Fetched, Fetcher
from components.collect.web.page_links import PageFacts, read_page
from components.collect.web.urls import host_of, origin
from components.core.config.blocklist import Blocklist


@dataclass(frozen=True)
class Manners:
    """Bounds of a crawl and how it treats a host."""

    agent: str
    max_pages: int
    max_pages_per_host: int
    max_depth: int
    max_redirects: int
    max_barren: int
    concurrency: int
    delay_seconds: float
    retries: int
    backoff_seconds: float
    blocklist: Blocklist
    optouts: OptoutConfig


@dataclass
class Asker:
    """Answers for one crawl. ``earlier`` is the crawl before it, for conditional requests."""

    fetcher: Fetcher
    spool: Spool
    manners: Manners
    earlier: Earlier | None = None
    _rules: dict[str, Rules] = field(default_factory=dict)
    _sites: dict[str, SiteSignals] = field(default_factory=dict)
    _gates: dict[str, Gate] = field(default_factory=dict)

    async def page(self, url: str) -> Answer:
        """The answer for a page, of a site that ``meet`` was told of."""
        alone = self._left_alone(url)
        if alone is None:
            return await self._stored(url)
        # Where its rules cannot be read now, it is not asked for; it was there, and it is kept.
        return self._kept(url, alone) if alone.transient else alone

    def carry_over(self, url: str, reason: str) -> Answer:
        """The answer for a page of the crawl before that is not asked for, for ``reason``: as it
        was then, where it may still be kept. Of a site that ``meet`` was told of.
        """
        alone = self._left_alone(url)
        if alone is None or alone.transient:
            alone = Answer(reason=reason, transient=True, asked=False)
            return self.spool.get(url) or self._kept(url, alone)
        return alone

    def _kept(self, url: str, alone: Answer) -> Answer:
        """The page as the crawl before has it, and why; ``alone`` where that has none."""
        fetched = Fetched(reason=alone.reason, transient=True)
        carried = self.earlier.kept(url, fetched) if self.earlier is not None else None
        return self._put(url, fetched, carried) if carried is not None else alone

    async def meet(self, urls: Sequence[str]) -> None:
        """Learn the rules and opt-outs of every site that comes up for the first time."""
        starts = [s for s in dict.fromkeys(map(origin, urls)) if s not in self._rules]
        agent = self.manners.agent
        rules = await asyncio.gather(*(read_rules(f"{s}/", self._text, agent) for s in starts))
        self._rules.update(zip(starts, rules, strict=True))
        for host in {host_of(f"{start}/") for start in starts}:
            if host in self._gates and not self._gates[host].closed:
                del self._gates[host]  # the next one knows the asked delay
        readable = [start for start in starts if self._is_open(start)]
        sites = await asyncio.gather(
            *(read_site(s, self._rules[s].text, self._body) for s in readable)
        )
        self._sites.update(zip(readable, sites, strict=True))

    async def sitemap(self, start: str) -> list[str]:
        """Pages that the sitemaps of a site name."""
        if not self._is_open(start):
            return []
        limit = self.manners.max_pages
        return await read_sitemaps(f"{start}/", self._rules[start], self._text, limit)

    def _is_open(self, start: str) -> bool:
        """Whether a site can be asked at all, and within our patience."""
        rules = self._rules[start]
        return rules.protego is not None and rules.delay(self.manners.agent) <= MAX_WAIT_SECONDS

    def signals(self, url: str) -> list[Signal]:
        """What the site says of a page's use."""
        site, manners = self._sites.get(origin(url)), self.manners
        if site is None and self.earlier is not None and self._rules[origin(url)].transient:
            return self.earlier.site_signals(url)
        return site.of(url, manners.agent, manners.optouts.agents) if site is not None else []

    def _left_alone(self, url: str) -> Answer | None:
        """The answer for a page that is not asked for."""
        if self.manners.blocklist.covers(url):
            return Answer(reason=BLOCKED, asked=False)
        rules = self._rules[origin(url)]
        if rules.forbids(url, self.manners.agent):
            unread = rules.protego is None
            return Answer(reason=rules.reason, transient=rules.transient, asked=unread)
        if not self._is_open(origin(url)):
            return Answer(
                reason=f"robots.txt asks for more than {MAX_WAIT_SECONDS:.0f} s between requests",
                asked=False,
            )
        if self.manners.optouts.policy == "honour":
            # What a page itself says may lift TDMRep's reservation of the site, and nothing else.
            final = [signal for signal in self.signals(url) if signal.kind != "tdmrep"]
            if reason := refusal(final):
                return Answer(reason=reason, asked=False)
        return None

    async def _stored(self, url: str) -> Answer:
        answer = self.spool.get(url)
        if answer is not None:
            return answer
        conditions = self.earlier.conditions(url) if self.earlier else {}
        fetched = await self._persistently(url, 0, conditions)
        carried = self.earlier.carried(url, fetched) if self.earlier else None
        if fetched.unchanged and carried is None:  # the earlier crawl's copy cannot be read
            fetched = await self._persistently(url, 0, {})
        if fetched.transient and self.earlier is not None:
            carried = self.earlier.kept(url, fetched)
        return self._put(url, fetched, carried)

    def _put(self, url: str, fetched: Fetched, carried: Carried | None) -> Answer:
        """Store a page's answer, with what the crawl wants to know of the page."""
        facts = PageFacts()
        if fetched.body:
            agent, optouts = self.manners.agent, self.manners.optouts
            facts = read_page(fetched.body, url, fetched.headers, agent, optouts)
            if carried is not None and carried.trouble:
                heard = [replace(signal, date=carried.date) for signal in facts.signals]
                facts = replace(facts, signals=heard)
        return self.spool.put(url, fetched, facts, carried)

    async def _text(self, url: str, limit: int) -> Fetched:
        """A text about a site, with its body."""
        name = f"text {url}"
        answer = self.spool.get(name)
        if answer is None:
            answer = self.spool.put(name, await self._persistently(url, limit, {}), PageFacts())
        return Fetched(
            answer.status,
            answer.reason,
            self.spool.body(name),
            location=answer.location,
            transient=answer.transient,
        )

    async def _body(self, url: str) -> str:
        fetched = await get_text(url, MAX_BYTES, self._text)
        return fetched.body.decode("utf-8", errors="replace") if not fetched.reason else ""

    async def _persistently(self, url: str, limit: int, conditions: dict[str, str]) -> Fetched:
        """Fetch at the host's pace, and again when that may help."""
        wait = self.manners.backoff_seconds
        for left in range(self.manners.retries, -1, -1):
            gate = self._gate(url)
            async with gate as started:
                if gate.closed:
                    return Fetched(reason=gate.closed, transient=True)
                fetched = await self.fetcher.get(url, text_limit=limit, conditions=conditions)
            if not fetched.transient:
                gate.answered()
                break
            over = ""
            if fetched.status in (0, 429, 503):
                over = gate.refused(started, fetched.wait_seconds)
            if over:
                fetched.reason += f", and {over}"
            if over or left == 0:
                break
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_WAIT_SECONDS)
        return fetched

    def _gate(self, url: str) -> Gate:
        host = host_of(url)
        if host not in self._gates:
            manners, rules = self.manners, self._rules.get(origin(url))
            delay = max(manners.delay_seconds, rules.delay(manners.agent) if rules else 0)
            # One request after another where a pause is asked for.
            slots = 1 if delay else manners.concurrency
            self._gates[host] = Gate(asyncio.Semaphore(slots), delay, manners.backoff_seconds)
        return self._gates[host]
