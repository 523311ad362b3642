"""Breadth-first crawler in waves, from seeds and sitemaps along links.

A wave is all pages at one distance from the seeds. Its pages are fetched concurrently, and the next
wave is made from their links in the order of the wave, whichever answered first. So the set of
fetched pages depends on the sites alone, and a crawl that was killed goes through the same waves
again, taking every stored response from the response store. Last come the pages of the previous
crawl that nothing links to any more: they are still there, or they are gone.

The request budget is reserved for the pages of the previous crawl: a new URL is requested only
where enough is left for all of them. Those that no request is left for are kept as they were.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from components.collect.crawl.crawl_traps import TrapDetector, shape_of
from components.collect.crawl.fetch_ledger import LedgerEntry
from components.collect.crawl.polite_fetcher import PoliteFetcher, PolitenessPolicy
from components.collect.crawl.response_store import StoredResponse
from components.collect.optouts.optout_policy import denial_reason, resolve_signals
from components.collect.web.ssrf_guard import is_private_literal
from components.collect.web.urls import host_of, origin_of
from components.core.log import get_logger
from components.core.progress import Progress

TRAP_REASON = "a trap: pages with addresses like this one bring nothing new"
"""Reason of the first URL of a trap; the others have no row in the ledger."""
BUDGET_SPENT = "not asked for: the budget (scrape.max_pages, max_pages_per_host) was used up"
"""Trouble of a page that is therefore kept as the previous crawl has it."""
MAX_CONCURRENT_VISITS = 2048
"""Visits in flight, most of them waiting for their hosts: bounds tasks and memory of a wave."""


@dataclass(frozen=True)
class Visit:
    """A page to be fetched."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """Redirects that led here, first to last."""
    is_seed: bool = False


@dataclass
class Crawler:
    """State of one crawl; ``hosts`` bounds it, and redirects of seeds may add to them."""

    fetcher: PoliteFetcher
    hosts: set[str]
    progress: Progress
    ledger: dict[str, LedgerEntry] = field(default_factory=dict)
    _known_urls: set[str] = field(default_factory=set)
    _request_count: int = 0
    _requests_by_host: Counter[str] = field(default_factory=Counter)
    _trap_shapes: set[str] = field(default_factory=set)
    """URL shapes that were found to be traps."""
    _reserved_by_host: Counter[str] = field(default_factory=Counter)
    """Pages of the previous crawl that were not visited yet, by host."""
    _skipped_count: int = 0
    """Known URLs that the budget left no request for."""

    def __post_init__(self) -> None:
        self._traps = TrapDetector(self._policy.max_barren)
        if self.fetcher.previous is not None:
            self._reserved_by_host.update(map(host_of, self.fetcher.previous.urls))

    @property
    def _policy(self) -> PolitenessPolicy:
        return self.fetcher.policy

    async def crawl_from_seeds(self, seeds: Sequence[str]) -> Mapping[str, LedgerEntry]:
        """Crawl from the seeds; the ledger by URL."""
        await self._crawl_waves(
            [v for url in seeds for v in self._plan_visit(url, 0, is_seed=True)]
        )
        if self.fetcher.previous is not None:
            depth = self._policy.max_depth  # they are fetched, and their links are not followed
            await self._crawl_waves(
                [v for url in self.fetcher.previous.urls for v in self._plan_visit(url, depth)]
            )
            await self._carry_over_unvisited(self.fetcher.previous.urls)
        self._warn_of_budget()
        _fold_canonicals(self.ledger)
        return self.ledger

    async def crawl_left_out(
        self, ledger: Mapping[str, LedgerEntry], due: Sequence[Visit]
    ) -> Mapping[str, LedgerEntry]:
        """Crawl what a replayed crawl left out, and what that leads to, within its bounds.

        Args:
            ledger: The replayed crawl's other URLs, none of which is requested.
            due: The pages to fetch.
        """
        self.ledger.update(ledger)
        for url, entry in ledger.items():
            self.hosts.add(host_of(url))
            if entry.reason == TRAP_REASON:
                self._trap_shapes.add(shape_of(url))
        visited = [url for url, entry in ledger.items() if entry.reason != TRAP_REASON]
        self._request_count = len(visited)
        self._requests_by_host.update(map(host_of, [*visited, *(visit.url for visit in due)]))
        self._known_urls |= {*ledger, *(visit.url for visit in due)}
        await self._crawl_waves(list(due))
        self._warn_of_budget()
        _fold_canonicals(self.ledger)
        return self.ledger

    async def _crawl_waves(self, wave: list[Visit]) -> None:
        """Crawl wave after wave until one is empty or the budget is spent."""
        while wave := self._within_budget(wave):
            self.progress.start_count(
                self._request_count + len(wave), "pages", done=self._request_count
            )
            self._request_count += len(wave)
            await self.fetcher.learn_sites([visit.url for visit in wave])
            responses = await self._fetch_wave(wave)
            next_wave: list[Visit] = []
            for visit, response in zip(wave, responses, strict=True):
                next_wave.extend(self._record_response(visit, response))
            for site in dict.fromkeys(origin_of(visit.url) for visit in wave if visit.is_seed):
                for url in await self.fetcher.read_sitemap_pages(site):
                    next_wave.extend(self._plan_visit(url, 1))
            wave = next_wave

    def _within_budget(self, wave: Sequence[Visit]) -> list[Visit]:
        """Visits of a wave that the budget has requests for, in its order."""
        requests_left = self._policy.max_pages - self._request_count
        reserved = sum(
            count for host, count in self._reserved_by_host.items() if host in self.hosts
        )
        has_priority = [self._has_priority(visit) for visit in wave]
        budget_left = {True: requests_left, False: requests_left - sum(has_priority) - reserved}
        affordable: list[Visit] = []
        for visit, is_reserved in zip(wave, has_priority, strict=True):
            budget_left[is_reserved] -= 1
            if budget_left[is_reserved] >= 0:
                affordable.append(visit)
        self._skipped_count += len(wave) - len(affordable)
        return affordable

    def _has_priority(self, visit: Visit) -> bool:
        """True for seeds, pages of the previous crawl, and redirect targets of either."""
        return visit.is_seed or any(map(self._is_in_previous, (visit.url, *visit.chain)))

    async def _carry_over_unvisited(self, urls: Sequence[str]) -> None:
        """Keep the pages of the previous crawl that no request was left for."""
        unvisited = [
            url
            for url in urls
            if url not in self.ledger
            and host_of(url) in self.hosts
            and shape_of(url) not in self._trap_shapes
        ]
        await self.fetcher.learn_sites(unvisited)
        for url in unvisited:
            response = self.fetcher.carry_over_page(url, BUDGET_SPENT)
            self._record_response(Visit(url, self._policy.max_depth), response)
            self.ledger[url].failed = False  # it was not requested, so nothing failed

    def _warn_of_budget(self) -> None:
        if self._skipped_count:
            carried_over = sum(entry.trouble == BUDGET_SPENT for entry in self.ledger.values())
            get_logger(__name__).warning(
                "scrape.max_pages (%d) was used up with %d known addresses not asked for%s",
                self._policy.max_pages,
                self._skipped_count,
                f", of which {carried_over} stay as the previous crawl has them"
                if carried_over
                else "",
            )

    async def _fetch_wave(self, wave: Sequence[Visit]) -> list[StoredResponse]:
        """Fetch a wave; responses in the order of its visits.

        A fixed number of tasks share the visits, as a wave may be too long for a task a visit.
        """
        responses: dict[int, StoredResponse] = {}
        pending = iter(enumerate(wave))

        async def fetch_pending() -> None:
            for index, visit in pending:
                responses[index] = await self.fetcher.fetch_page(visit.url)
                self.progress.advance(note=host_of(visit.url))

        await asyncio.gather(*(fetch_pending() for _ in wave[:MAX_CONCURRENT_VISITS]))
        return [responses[index] for index in range(len(wave))]

    def _record_response(self, visit: Visit, response: StoredResponse) -> list[Visit]:
        """Enter a response into the ledger; the visits that follow from it."""
        entry = self.ledger[visit.url] = _ledger_entry(visit, response)
        entry.optouts = resolve_signals(
            [*self.fetcher.site_signals(visit.url), *response.facts.signals]
        )
        target = response.location or response.facts.refresh
        if target and not response.reason:
            entry.change = "moved" if self._is_in_previous(visit.url) else ""
            return self._follow_redirect(visit, target, entry)
        if not response.reason:
            entry.reason = self._exclusion_reason(response, entry)
            self._traps.observe_page(visit.url, response.facts.words)
        entry.change = self._change_since_previous(visit.url, response, entry)
        links = response.facts.links
        if response.facts.canonical:
            links = [response.facts.canonical, *links]
        return [v for url in links for v in self._plan_visit(url, visit.depth + 1)]

    def _exclusion_reason(self, response: StoredResponse, entry: LedgerEntry) -> str:
        """Reason for which a fetched page is not stored; empty where it is."""
        if response.facts.noindex:
            return "its robots directives forbid indexing"
        if response.bytes == 0:
            return "an empty page"
        return denial_reason(entry.optouts) if self._policy.optout_config.policy == "honour" else ""

    def _is_in_previous(self, url: str) -> bool:
        return self.fetcher.previous is not None and url in self.fetcher.previous

    def _change_since_previous(self, url: str, response: StoredResponse, entry: LedgerEntry) -> str:
        """Change since the previous crawl (the ledger's ``change``); empty where it is unknown."""
        if self.fetcher.previous is None:
            return ""
        if self._is_in_previous(url):
            if response.status in (404, 410):
                return "gone"
            if entry.reason or entry.trouble:
                return "" if entry.reason else "kept"
            return "same" if response.previous_capture is not None else "changed"
        return "" if entry.reason else "new"

    def _follow_redirect(self, visit: Visit, target: str, entry: LedgerEntry) -> list[Visit]:
        chain = (*visit.chain, visit.url)
        entry.reason = f"redirects to {target}"
        if target in chain:
            entry.reason, entry.failed = "redirects in a loop", True
            return []
        if len(chain) > self._policy.max_redirects:
            limit = self._policy.max_redirects
            why = f"more than {limit} redirects (scrape.max_redirects)"
            entry.reason, entry.failed = f"{why}; {target} is not followed", True
            return []
        if visit.is_seed:
            self.hosts.add(host_of(target))
        is_new = target not in self._known_urls
        visits = self._plan_visit(target, visit.depth, chain, is_seed=visit.is_seed)
        if is_new and not visits:
            entry.reason += f", which is not followed: {self._reason_not_followed(target)}"
        return visits

    def _reason_not_followed(self, target: str) -> str:
        """Reason for which a new redirect target is not requested."""
        host = host_of(target)
        if host not in self.hosts:
            private = "a private address, " if is_private_literal(host) else ""
            return f"{private}outside the crawl (scrape.hosts)"
        if shape_of(target) in self._trap_shapes:
            return TRAP_REASON
        return "the budget of its host is used up (scrape.max_pages_per_host)"

    def _plan_visit(
        self, url: str, depth: int, chain: tuple[str, ...] = (), *, is_seed: bool = False
    ) -> list[Visit]:
        """Plan a visit to ``url`` where it is new and within bounds: a list of one or none."""
        host, visit = host_of(url), Visit(url, depth, chain, is_seed)
        if url in self._known_urls or depth > self._policy.max_depth or host not in self.hosts:
            return []
        reserved = 0 if self._has_priority(visit) else self._reserved_by_host[host]
        if self._requests_by_host[host] + reserved >= self._policy.max_pages_per_host:
            return []
        self._reserved_by_host[host] -= self._is_in_previous(url)
        if self._traps.is_trap(url) or shape_of(url) in self._trap_shapes:
            self._record_trap(url)
            return []
        self._known_urls.add(url)
        self._requests_by_host[host] += 1
        return [visit]

    def _record_trap(self, url: str) -> None:
        """Enter the first URL of a trap into the ledger; there is no end to the others."""
        self._known_urls.add(url)
        shape = shape_of(url)
        if shape not in self._trap_shapes:
            self._trap_shapes.add(shape)
            self.ledger[url] = LedgerEntry(url, reason=TRAP_REASON)


def _ledger_entry(visit: Visit, response: StoredResponse) -> LedgerEntry:
    trouble = response.previous_capture.trouble if response.previous_capture is not None else ""
    return LedgerEntry(
        visit.url,
        response.status,
        response.reason,
        response.bytes,
        response.digest if response.bytes else "",
        response.headers.get("etag", ""),
        response.headers.get("last-modified", ""),
        visit.chain[0] if visit.chain else "",
        response.facts.canonical,
        trouble=trouble,
        note=response.note,
        depth=visit.depth,
        failed=bool(trouble)
        or (response.asked and bool(response.reason) and not 0 < response.status < 400),
    )


def _fold_canonicals(ledger: Mapping[str, LedgerEntry]) -> None:
    """Of pages with one canonical URL (RFC 6596), keep the canonical page alone.

    Only where the canonical page is stored too. A site whose every page declares the home page as
    canonical is misconfigured, so a home page stands for equal pages alone.
    """
    for url in sorted(ledger):
        entry = ledger[url]
        target = ledger.get(entry.canonical)
        if entry.reason or target is None or target.reason:
            continue
        if entry.canonical == f"{origin_of(url)}/" and entry.digest != target.digest:
            continue
        entry.reason = f"canonical is {entry.canonical}"
