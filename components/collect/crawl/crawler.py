"""The crawl: from seeds and sitemaps along links, in waves.

A wave is all pages at one distance from the seeds. Its pages are fetched side by side, and the next
wave is made from their links in the order of the wave, whichever answered first. So which pages are
fetched depends on the sites alone, and after a kill the same waves are gone through again, with
every stored answer taken from the spool. Last come the pages of the crawl before that nothing links
to any more: they are still there, or they are gone.

The budget is first for the pages of the crawl before: a new address is asked for only where enough
of it is left for all of them. What there is no request for after all is kept as it was.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.collect.crawl.crawl_traps import Traps, shape_of
from components.collect.crawl.fetch_ledger import Entry
from components.collect.crawl.polite_fetcher import Asker, Manners
from components.collect.crawl.response_store import Answer
from components.collect.optouts.optout_policy import refusal, weigh
from components.collect.web.ssrf_guard import is_private_literal
from components.collect.web.urls import host_of, origin
from components.core.log import get_logger
from components.core.progress import Progress

TRAPPED = "a trap: pages with addresses like this one bring nothing new"
"""The reason of the first address of a trap."""
SPENT = "not asked for: the budget (scrape.max_pages, max_pages_per_host) was used up"
"""The trouble of a page that is therefore kept as the crawl before has it."""
MAX_WAITING = 2048
"""Visits that wait for their hosts at a time."""


@dataclass(frozen=True)
class Visit:
    """A page to be fetched."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """The redirects that led here, first to last."""
    is_seed: bool = False


@dataclass
class Crawl:
    """One crawl. ``hosts`` bounds it; redirects of seeds may add to them."""

    asker: Asker
    hosts: set[str]
    progress: Progress
    ledger: dict[str, Entry] = field(default_factory=dict)
    _known: set[str] = field(default_factory=set)
    _asked: int = 0
    _of_host: Counter[str] = field(default_factory=Counter)
    _trapped: set[str] = field(default_factory=set)
    """Shapes of addresses that were found to be traps."""
    _owed: Counter[str] = field(default_factory=Counter)
    """Pages of the crawl before that were not come to yet, by host."""
    _passed_over: int = 0
    """Addresses that the budget left no request for."""

    def __post_init__(self) -> None:
        self._traps = Traps(self._manners.max_barren)
        if self.asker.earlier is not None:
            self._owed.update(map(host_of, self.asker.earlier.urls))

    @property
    def _manners(self) -> Manners:
        return self.asker.manners

    async def run(self, seeds: Sequence[str]) -> Mapping[str, Entry]:
        """Crawl, and give the ledger by URL."""
        await self._go([v for url in seeds for v in self._next(url, 0, is_seed=True)])
        if self.asker.earlier is not None:
            depth = self._manners.max_depth  # they are looked at, and lead nowhere
            await self._go([v for url in self.asker.earlier.urls for v in self._next(url, depth)])
            await self._carry_over(self.asker.earlier.urls)
        self._tell_of_budget()
        _fold_canonicals(self.ledger)
        return self.ledger

    async def go_on(self, ledger: Mapping[str, Entry], due: Sequence[Visit]) -> Mapping[str, Entry]:
        """Crawl what an earlier crawl left out, and what that leads to, within its bounds.

        ``ledger`` holds the earlier crawl's other addresses: none of them is asked for.
        """
        self.ledger.update(ledger)
        for url, entry in ledger.items():
            self.hosts.add(host_of(url))
            if entry.reason == TRAPPED:
                self._trapped.add(shape_of(url))
        visited = [url for url, entry in ledger.items() if entry.reason != TRAPPED]
        self._asked = len(visited)
        self._of_host.update(map(host_of, [*visited, *(visit.url for visit in due)]))
        self._known |= {*ledger, *(visit.url for visit in due)}
        await self._go(list(due))
        self._tell_of_budget()
        _fold_canonicals(self.ledger)
        return self.ledger

    async def _go(self, wave: list[Visit]) -> None:
        """Go through waves until one is empty or enough pages were asked for."""
        while wave := self._within_budget(wave):
            self.progress.start(self._asked + len(wave), "pages", done=self._asked)
            self._asked += len(wave)
            await self.asker.meet([visit.url for visit in wave])
            answers = await self._answers(wave)
            following: list[Visit] = []
            for visit, answer in zip(wave, answers, strict=True):
                following.extend(self._settle(visit, answer))
            for start in dict.fromkeys(origin(visit.url) for visit in wave if visit.is_seed):
                for url in await self.asker.sitemap(start):
                    following.extend(self._next(url, 1))
            wave = following

    def _within_budget(self, wave: Sequence[Visit]) -> list[Visit]:
        """The visits of a wave that there are requests for, in its order."""
        room = self._manners.max_pages - self._asked
        owed = sum(count for host, count in self._owed.items() if host in self.hosts)
        first = [self._comes_first(visit) for visit in wave]
        left = {True: room, False: room - sum(first) - owed}
        found: list[Visit] = []
        for visit, is_first in zip(wave, first, strict=True):
            left[is_first] -= 1
            if left[is_first] >= 0:
                found.append(visit)
        self._passed_over += len(wave) - len(found)
        return found

    def _comes_first(self, visit: Visit) -> bool:
        """Seeds, pages of the crawl before, and where either moved to."""
        return visit.is_seed or any(map(self._was_there, (visit.url, *visit.chain)))

    async def _carry_over(self, urls: Sequence[str]) -> None:
        """Keep the pages of the crawl before that there was no request for."""
        left = [
            url
            for url in urls
            if url not in self.ledger
            and host_of(url) in self.hosts
            and shape_of(url) not in self._trapped
        ]
        await self.asker.meet(left)
        for url in left:
            answer = self.asker.carry_over(url, SPENT)
            self._settle(Visit(url, self._manners.max_depth), answer)
            self.ledger[url].failed = False  # nobody failed: it was not asked for

    def _tell_of_budget(self) -> None:
        if self._passed_over:
            kept = sum(entry.trouble == SPENT for entry in self.ledger.values())
            get_logger(__name__).warning(
                "scrape.max_pages (%d) was used up with %d known addresses not asked for%s",
                self._manners.max_pages,
                self._passed_over,
                f", of which {kept} stay as the crawl before has them" if kept else "",
            )

    async def _answers(self, wave: Sequence[Visit]) -> list[Answer]:
        """One for each visit, in their order; a wave may be too long for a task a visit."""
        answers: dict[int, Answer] = {}
        waiting = iter(enumerate(wave))

        async def work() -> None:
            for at, visit in waiting:
                answers[at] = await self.asker.page(visit.url)
                self.progress.advance(note=host_of(visit.url))

        await asyncio.gather(*(work() for _ in wave[:MAX_WAITING]))
        return [answers[at] for at in range(len(wave))]

    def _settle(self, visit: Visit, answer: Answer) -> list[Visit]:
        """Enter an answer into the ledger; where it leads."""
        entry = self.ledger[visit.url] = _entry(visit, answer)
        entry.optouts = weigh([*self.asker.signals(visit.url), *answer.facts.signals])
        if answer.location is not None and not answer.reason:
            entry.change = "moved" if self._was_there(visit.url) else ""
            return self._redirect(visit, answer.location, entry)
        if not answer.reason:
            entry.reason = self._left_out(answer, entry)
            self._traps.learn(visit.url, answer.facts.words)
        entry.change = self._change(visit.url, answer, entry)
        links = answer.facts.links
        if answer.facts.canonical:
            links = [answer.facts.canonical, *links]
        return [v for url in links for v in self._next(url, visit.depth + 1)]

    def _left_out(self, answer: Answer, entry: Entry) -> str:
        """Why a page that came is not kept; empty where it is."""
        if answer.facts.noindex:
            return "its robots directives forbid indexing"
        if answer.bytes == 0:
            return "an empty page"
        return refusal(entry.optouts) if self._manners.optouts.policy == "honour" else ""

    def _was_there(self, url: str) -> bool:
        return self.asker.earlier is not None and url in self.asker.earlier

    def _change(self, url: str, answer: Answer, entry: Entry) -> str:
        """What became of the page since the crawl before; empty where nothing can be said."""
        if self.asker.earlier is None:
            return ""
        if self._was_there(url):
            if answer.status in (404, 410):
                return "gone"
            if entry.reason or entry.trouble:
                return "" if entry.reason else "kept"
            return "same" if answer.carried is not None else "changed"
        return "" if entry.reason else "new"

    def _redirect(self, visit: Visit, target: str, entry: Entry) -> list[Visit]:
        chain = (*visit.chain, visit.url)
        entry.reason = f"redirects to {target}"
        if target in chain:
            entry.reason, entry.failed = "redirects in a loop", True
            return []
        if len(chain) > self._manners.max_redirects:
            limit = self._manners.max_redirects
            why = f"more than {limit} redirects (scrape.max_redirects)"
            entry.reason, entry.failed = f"{why}; {target} is not followed", True
            return []
        if visit.is_seed:
            self.hosts.add(host_of(target))
        is_new = target not in self._known
        followed = self._next(target, visit.depth, chain, is_seed=visit.is_seed)
        if is_new and not followed:
            entry.reason += f", which is not followed: {self._why_not(target)}"
        return followed

    def _why_not(self, target: str) -> str:
        """Why an address that is new is not asked for."""
        host = host_of(target)
        if host not in self.hosts:
            private = "a private address, " if is_private_literal(host) else ""
            return f"{private}outside the crawl (scrape.hosts)"
        if shape_of(target) in self._trapped:
            return TRAPPED
        return "the budget of its host is used up (scrape.max_pages_per_host)"

    def _next(
        self, url: str, depth: int, chain: tuple[str, ...] = (), *, is_seed: bool = False
    ) -> list[Visit]:
        """A visit to ``url``, where it is new and within bounds."""
        host, visit = host_of(url), Visit(url, depth, chain, is_seed)
        if url in self._known or depth > self._manners.max_depth or host not in self.hosts:
            return []
        owed = 0 if self._comes_first(visit) else self._owed[host]
        if self._of_host[host] + owed >= self._manners.max_pages_per_host:
            return []
        self._owed[host] -= self._was_there(url)
        if self._traps.closed(url) or shape_of(url) in self._trapped:
            self._enter_trap(url)
            return []
        self._known.add(url)
        self._of_host[host] += 1
        return [visit]

    def _enter_trap(self, url: str) -> None:
        """One line a trap: its addresses have no end."""
        self._known.add(url)
        shape = shape_of(url)
        if shape not in self._trapped:
            self._trapped.add(shape)
            self.ledger[url] = Entry(url, reason=TRAPPED)


def _entry(visit: Visit, answer: Answer) -> Entry:
    trouble = answer.carried.trouble if answer.carried is not None else ""
    return Entry(
        visit.url,
        answer.status,
        answer.reason,
        answer.bytes,
        answer.digest if answer.bytes else "",
        answer.headers.get("etag", ""),
        answer.headers.get("last-modified", ""),
        visit.chain[0] if visit.chain else "",
        answer.facts.canonical,
        trouble=trouble,
        depth=visit.depth,
        failed=bool(trouble)
        or (answer.asked and bool(answer.reason) and not 0 < answer.status < 400),
    )


def _fold_canonicals(ledger: Mapping[str, Entry]) -> None:
    """Keep of pages that say they are one (RFC 6596) the one that is meant.

    Only where that one is kept too. A site whose every page claims to be its home page is wrong;
    so a home page stands for itself alone.
    """
    for url in sorted(ledger):
        entry = ledger[url]
        target = ledger.get(entry.canonical)
        if entry.reason or target is None or target.reason:
            continue
        if entry.canonical == f"{origin(url)}/" and entry.digest != target.digest:
            continue
        entry.reason = f"canonical is {entry.canonical}"
