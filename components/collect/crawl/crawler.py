"""Breadth-first crawler in waves, from seeds and sitemaps along links.

A wave holds pages of one distance from the seeds. They are fetched concurrently, and the next waves
are made from their links in the order of the wave, whichever answered first. So the set of fetched
pages depends on the sites alone, and a crawl that was killed goes through the same waves again,
taking every stored response from the response store. Every address that is named and not asked for
is entered into the ledger with the reason. Last come the pages of the previous
crawl that nothing links to any more: they are still there, or they are gone.

The request budget is reserved for the pages of the previous crawl: a new URL is requested only
where enough is left for all of them. Those that no request is left for are kept as they were.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress

from components.collect.crawl.crawl_budget import (
    BUDGET_SPENT,
    HOST_BUDGET_REASON,
    MAX_DEPTH_REASON,
    MAX_PAGES_REASON,
    OUTSIDE_REASON,
    CrawlBudget,
    PolitenessPolicy,
)
from components.collect.crawl.crawl_health import warn_of_bounds
from components.collect.crawl.crawl_traps import (
    FILES_REASON,
    TRAP_REASON,
    TrapDetector,
)
from components.collect.crawl.fetch_ledger import (
    LedgerEntry,
    UnaskedAddresses,
    fold_canonicals,
    make_entry,
)
from components.collect.crawl.frontier import CrawlOutlook, Frontier, Visit
from components.collect.crawl.joined_parameters import JoinedParameters, same_page_reason
from components.collect.crawl.polite_fetcher import PoliteFetcher
from components.collect.crawl.response_store import StoredResponse
from components.collect.optouts.optout_policy import denial_reason, resolve_signals
from components.collect.sitemaps.read_sitemaps import (
    READ_AS_SITEMAP,
    SitemapListing,
    SitemapReader,
)
from components.collect.web.ssrf_guard import is_private_literal
from components.collect.web.urls import host_of, origin_of
from components.core.progress import Progress

MAX_CONCURRENT_VISITS = 2048
"""Visits in flight, most of them waiting for their hosts: bounds tasks and memory of a wave."""


@dataclass
class Crawler:
    """State of one crawl; ``hosts`` bounds it, and redirects of seeds may add to them."""

    fetcher: PoliteFetcher
    hosts: set[str]
    progress: Progress
    ledger: dict[str, LedgerEntry] = field(default_factory=dict)
    _known_urls: set[str] = field(default_factory=set)
    _unasked: UnaskedAddresses = field(default_factory=UnaskedAddresses)
    _joined: JoinedParameters = field(default_factory=JoinedParameters)
    _outlook: CrawlOutlook = field(default_factory=CrawlOutlook)

    def __post_init__(self) -> None:
        self._traps = TrapDetector(self._policy.max_barren)
        self._frontier = Frontier(self._traps)
        self._sitemap_reader = SitemapReader(
            self.fetcher,
            lambda url: host_of(url) in self.hosts,
            lambda url, reason: self._leave_unasked(url, reason, 1),
        )
        self._budget = CrawlBudget(self._policy.max_pages, self._policy.max_pages_per_host)
        if self.fetcher.previous is not None:
            self._budget.reserve_pages(self.fetcher.previous.urls)

    @property
    def _policy(self) -> PolitenessPolicy:
        return self.fetcher.policy

    async def crawl_from_seeds(self, seeds: Sequence[str]) -> Mapping[str, LedgerEntry]:
        """Crawl from the seeds; the ledger by URL."""
        self._sitemap_reader.read.update(seeds)
        for url in seeds:
            self._plan_visit(url, 0, is_seed=True)
        await self._crawl_waves()
        if self.fetcher.previous is not None:
            depth = self._policy.max_depth  # they are fetched, and their links are not followed
            for url in self.fetcher.previous.urls:
                self._plan_visit(url, depth, is_vouched=True)
            await self._crawl_waves()
            await self._carry_over_unvisited(self.fetcher.previous.urls)
        return self._close_ledger()

    async def crawl_left_out(
        self, ledger: Mapping[str, LedgerEntry], due: Sequence[Visit]
    ) -> Mapping[str, LedgerEntry]:
        """Crawl what a replayed crawl left out, and what that leads to, within its bounds.

        Args:
            ledger: The replayed crawl's other URLs, none of which is requested.
            due: The pages to fetch.
        """
        for url, entry in ledger.items():
            if entry.unasked:
                self._unasked.restore_entry(entry)
            else:
                self.ledger[url] = entry
                self.hosts.add(host_of(url))
                self._traps.note_planned(url)
        known = [*self.ledger, *(visit.url for visit in due)]
        self._budget.restore_requests(len(self.ledger), known)
        self._known_urls |= set(known)
        for url, entry in ledger.items():
            if entry.reason == TRAP_REASON:
                self._traps.close_shapes(self._traps.shapes_of(url, self._known_urls))
        self._frontier.add_visits(due)
        for visit in due:
            self._outlook.add_due(visit.url)
        await self._crawl_waves()
        return self._close_ledger()

    def _close_ledger(self) -> Mapping[str, LedgerEntry]:
        """Join equal pages, and add the addresses that were not asked for."""
        fold_canonicals(self.ledger)
        for url, copied in self._joined.copies().items():
            if not self.ledger[url].reason and not self.ledger[copied[0]].reason:
                self.ledger[url].reason = same_page_reason(copied)
        self.ledger.update(self._unasked.entries_beside(self.ledger))
        policy = self._policy
        warn_of_bounds(self.ledger, policy.max_pages, policy.max_pages_per_host, policy.max_depth)
        return self.ledger

    async def _crawl_waves(self) -> None:
        """Crawl wave after wave until nothing is due or the budget is spent."""
        self.progress.start_count(None, "pages", done=self._budget.requests)
        while due := self._frontier.take_wave():
            wave = self._within_budget([visit for visit in due if self._is_still_due(visit)])
            if not wave:
                continue
            self._budget.requests += len(wave)
            await self.fetcher.learn_sites([visit.url for visit in wave])
            responses = await self._pass_cookie_walls(wave, await self._fetch_wave(wave))
            for visit, response in zip(wave, responses, strict=True):
                self._record_response(visit, response)
            self._outlook.close_wave()
            await self._read_sitemaps(zip(wave, responses, strict=True))
            await self._judge_numbers()

    async def _read_sitemaps(self, wave: Iterable[tuple[Visit, StoredResponse]]) -> None:
        """Plan what the sitemaps of a wave's seeds list, and seeds that are sitemaps themselves."""
        reader = self._sitemap_reader
        seeds = [(visit.url, response) for visit, response in wave if visit.is_seed]
        for url, response in seeds:
            if listing := await reader.read_seed(url, response):
                self.ledger[url].reason = READ_AS_SITEMAP
                self._budget.count_repeats(url, not response.bytes)
                self._plan_listed(listing)
        for site in dict.fromkeys(origin_of(url) for url, _ in seeds):
            self._plan_listed(await reader.read_site(site))

    def _plan_listed(self, listing: SitemapListing) -> None:
        """Plan the pages that sitemaps list; those that no budget can reach are left unasked."""
        planned = 0
        for url in listing.pages:
            if planned < self._policy.max_pages:
                planned += isinstance(self._plan_visit(url, 1, is_vouched=True), Visit)
            elif url not in self._known_urls:
                self._leave_unasked(url, self._reason_by_host(url) or MAX_PAGES_REASON, 1)
        for url, (status, reason) in listing.failures.items():
            if self._reason_by_host(url):  # no entry that was met may open its host to a replay
                self._leave_unasked(url, reason, 1)
            else:
                self.ledger.setdefault(url, LedgerEntry(url, status, reason, depth=1))

    async def _judge_numbers(self) -> None:
        """Ask again for a page of each shape whose pages differ in their numbers alone."""
        for url in self._traps.urls_to_repeat():
            if not self._budget.requests_left(self.hosts):
                break
            first, again = await self.fetcher.repeat_page(url)
            self._budget.count_repeats(url, 1)
            self._traps.judge_numbers(url, first.numbers == again.numbers)

    def _is_still_due(self, visit: Visit) -> bool:
        """True where what was fetched since gives no reason against a planned visit."""
        reason = "" if visit.is_seed else self._reason_by_content(visit)
        if reason:
            self._unasked.record_address(visit.url, reason, visit.depth)
            self._outlook.remove_due(visit.url)
            self._budget.cancel_request(visit.url)
        return not reason

    def _within_budget(self, wave: Sequence[Visit]) -> list[Visit]:
        """Visits of a wave that the budget has requests for, in its order."""
        has_priority = [self._has_priority(visit) for visit in wave]
        affordable = self._budget.choose_affordable(has_priority, self.hosts)
        for visit, is_affordable in zip(wave, affordable, strict=True):
            if not is_affordable:
                self._unasked.record_address(visit.url, MAX_PAGES_REASON, visit.depth)
                self._outlook.remove_due(visit.url)
        return list(compress(wave, affordable))

    def _has_priority(self, visit: Visit) -> bool:
        """True for seeds, pages of the previous crawl, and redirect targets of either."""
        return visit.is_seed or any(map(self._is_in_previous, (visit.url, *visit.chain)))

    async def _carry_over_unvisited(self, urls: Sequence[str]) -> None:
        """Keep the pages of the previous crawl that no request was left for."""
        unvisited = [url for url in urls if url not in self.ledger and host_of(url) in self.hosts]
        await self.fetcher.learn_sites(unvisited)
        for url in unvisited:
            response = self.fetcher.carry_over_page(url, BUDGET_SPENT)
            self._record_response(Visit(url, self._policy.max_depth), response)
            self.ledger[url].failed = False  # it was not requested, so nothing failed

    async def _fetch_wave(self, wave: Sequence[Visit]) -> list[StoredResponse]:
        """Fetch a wave; responses in the order of its visits.

        A fixed number of tasks share the visits, as a wave may be too long for a task a visit.
        """
        responses: dict[int, StoredResponse] = {}
        pending = iter(enumerate(wave))

        async def fetch_pending() -> None:
            for index, visit in pending:
                response = responses[index] = await self.fetcher.fetch_page(visit.url)
                self._estimate_rest(visit, response)
                self.progress.advance(note=host_of(visit.url))

        await asyncio.gather(*(fetch_pending() for _ in wave[:MAX_CONCURRENT_VISITS]))
        return [responses[index] for index in range(len(wave))]

    async def _pass_cookie_walls(
        self, wave: Sequence[Visit], responses: Sequence[StoredResponse]
    ) -> list[StoredResponse]:
        """Responses of a wave, those of pages that wait for their cookies asked for again."""
        urls = [visit.url for visit in wave]
        left = self._budget.requests_left(self.hosts)
        passed = await self.fetcher.pass_cookie_walls(dict(zip(urls, responses, strict=True)), left)
        for url, response in passed.items():
            self._budget.count_repeats(url, response.requests - 1)
        return [passed.get(u, first) for u, first in zip(urls, responses, strict=True)]

    def _estimate_rest(self, visit: Visit, response: StoredResponse) -> None:
        """Renew the estimate of what is still to come, after a response."""
        self._outlook.remove_due(visit.url)
        if visit.depth < self._policy.max_depth:
            target = response.location or response.facts.refresh
            links = [target] if target else response.facts.links
            self._outlook.glimpse_links(
                url for url in links if url not in self._known_urls and host_of(url) in self.hosts
            )
        left = self._policy.max_pages - int(self.progress.done) - 1
        expected = self._outlook.expected_requests(left)
        total = self.progress.done + 1 + sum(expected.values())
        self.progress.expect_total(round(total), self.fetcher.estimate_seconds(expected))

    def _record_response(self, visit: Visit, response: StoredResponse) -> None:
        """Enter a response into the ledger, and plan the visits that follow from it."""
        entry = self.ledger[visit.url] = make_entry(visit, response)
        entry.optouts = resolve_signals(
            [*self.fetcher.site_signals(visit.url), *response.facts.signals]
        )
        if response.asked and not response.transient and response.location is None:
            self._traps.observe_file(visit.url, is_page=not response.reason)
        target = response.location or response.facts.refresh
        if target and not response.reason:
            entry.change = "moved" if self._is_in_previous(visit.url) else ""
            self._follow_redirect(visit, target, entry)
            return
        facts = response.facts
        links = [facts.canonical, *facts.links] if facts.canonical else facts.links
        outcomes = [self._plan_visit(url, visit.depth + 1) for url in links]
        if not response.reason:
            entry.reason = self._exclusion_reason(response, entry)
            named = [planned.shapes for planned in outcomes if isinstance(planned, Visit)]
            self._traps.observe_page(visit.url, visit.shapes, facts.fingerprint, named)
            self._joined.observe_page(visit.url, facts.fingerprint)
        entry.change = self._change_since_previous(visit.url, response, entry)
        for url, reason in facts.unfollowed.items():
            if url not in self._known_urls:
                self._unasked.record_address(url, reason, visit.depth + 1)

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

    def _follow_redirect(self, visit: Visit, target: str, entry: LedgerEntry) -> None:
        chain = (*visit.chain, visit.url)
        entry.reason = f"redirects to {target}"
        if target in chain:
            entry.reason, entry.failed = "redirects in a loop", True
            return
        if len(chain) > self._policy.max_redirects:
            limit = self._policy.max_redirects
            why = f"more than {limit} redirects (scrape.max_redirects)"
            entry.reason, entry.failed = f"{why}; {target} is not followed", True
            if target not in self._known_urls:
                self._unasked.record_address(target, why, visit.depth)
            return
        if visit.is_seed:
            self.hosts.add(host_of(target))
        planned = self._plan_visit(target, visit.depth, chain, is_seed=visit.is_seed)
        if isinstance(planned, str):
            entry.reason += f", which is not followed: {planned}"

    def _plan_visit(
        self,
        url: str,
        depth: int,
        chain: tuple[str, ...] = (),
        *,
        is_seed: bool = False,
        is_vouched: bool = False,
    ) -> Visit | str | None:
        """Plan a visit to a URL: the visit, the reason where it is not asked for, None if known."""
        if url in self._known_urls:
            return None
        if reason := self._reason_by_host(url):
            return self._leave_unasked(url, reason, depth)
        if depth > self._policy.max_depth:
            return self._leave_unasked(url, MAX_DEPTH_REASON, depth)
        shapes = self._traps.shapes_of(url, self._known_urls)
        visit = Visit(url, depth, chain, is_seed, shapes, is_seed or is_vouched)
        if self._budget.is_host_spent(url, self._has_priority(visit)):
            return self._leave_unasked(url, HOST_BUDGET_REASON, depth)
        if self._is_in_previous(url):
            self._budget.release_page(url)
        if not is_seed and (reason := self._reason_by_content(visit)):
            return self._leave_unasked(url, reason, depth)
        self._known_urls.add(url)
        self._traps.note_planned(url)
        self._budget.plan_request(url)
        self._frontier.add_visits([visit])
        self._outlook.add_due(url)
        return visit

    def _reason_by_host(self, url: str) -> str:
        """Reason against an address outside the crawl; empty for one inside."""
        host = host_of(url)
        private = "a private address, " if is_private_literal(host) else ""
        return f"{private}{OUTSIDE_REASON}" if host not in self.hosts else ""

    def _leave_unasked(self, url: str, reason: str, depth: int) -> str:
        self._unasked.record_address(url, reason, depth)
        return reason

    def _reason_by_content(self, visit: Visit) -> str:
        """Reason against an address by the pages that addresses like it brought; empty for none."""
        if copied := self._joined.find_copied(visit.url):
            return same_page_reason(copied)
        if not visit.is_vouched and self._traps.is_trap(visit.shapes):
            return TRAP_REASON
        return FILES_REASON if self._traps.is_no_page(visit.url) else ""
