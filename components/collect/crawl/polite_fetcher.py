"""Polite fetcher: robots rules, limits by host and port, retries, and a stored response a page.

Every response goes through the response store under the page's URL, so that a restarted crawl
requests nothing twice. Files about a site (robots.txt, sitemaps, opt-outs) have keys of their own
there, since a site may link to them as pages.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from components.collect.crawl.crawl_budget import PolitenessPolicy
from components.collect.crawl.fetch_ledger import BLOCKED_REASON
from components.collect.crawl.host_rate_limiter import (
    MAX_WAIT_SECONDS,
    HostRateLimiter,
    estimate_seconds,
)
from components.collect.crawl.previous_crawl import PreviousCrawl
from components.collect.crawl.response_store import PreviousCapture, ResponseStore, StoredResponse
from components.collect.crawl.robots_rules import (
    RobotsRules,
    fetch_following_redirects,
    fetch_robots_rules,
)
from components.collect.optouts.optout_policy import OptoutSignal, denial_reason
from components.collect.optouts.robots_groups import decode_site_file
from components.collect.optouts.site_signals import (
    MAX_SITE_FILE_BYTES,
    SiteSignals,
    fetch_site_signals,
)
from components.collect.web.cookie_jar import CookieJar
from components.collect.web.cookie_walls import CookieWall, pass_cookie_wall
from components.collect.web.http_fetcher import FetchResult, HttpFetcher
from components.collect.web.page_fingerprint import PageFingerprint
from components.collect.web.page_links import PageFacts, read_page_facts
from components.collect.web.urls import origin_of

_SLOW_REASON = f"robots.txt asks for more than {MAX_WAIT_SECONDS:.0f} s between requests"


@dataclass
class PoliteFetcher:
    """Responses for one crawl; ``previous`` is the crawl before it, for conditional requests."""

    http: HttpFetcher
    responses: ResponseStore
    policy: PolitenessPolicy
    previous: PreviousCrawl | None = None
    cookies: CookieJar = field(default_factory=CookieJar)
    _rules: dict[str, RobotsRules] = field(default_factory=dict)
    _sites: dict[str, SiteSignals] = field(default_factory=dict)
    _limiters: dict[str, HostRateLimiter] = field(default_factory=dict)

    async def fetch_page(self, url: str) -> StoredResponse:
        """Response of a page, whose site ``learn_sites`` has seen."""
        refusal = self._refuse(url)
        if refusal is None:
            return await self._load_or_fetch(url)
        # Where its rules cannot be read now, it is not requested; its previous capture is kept.
        return self._reuse_previous(url, refusal) if refusal.transient else refusal

    async def pass_cookie_walls(
        self, wave: Mapping[str, StoredResponse], most: int
    ) -> dict[str, StoredResponse]:
        """Fetch the pages of a wave that wait for their cookies; their responses by URL.

        Where the first page of a site that asks for cookies is the same with them, its others are
        not asked for again.

        Args:
            wave: Responses of the wave by URL, in its order.
            most: Requests to make, at most.
        """
        walls: dict[str, list[tuple[str, StoredResponse]]] = defaultdict(list)
        for url, response in wave.items():
            if response.requests > 1 or self._way_behind(url, response):
                walls[origin_of(url)].append((url, response))
        order = [url for site in walls.values() for url, _ in site]
        share, rest = divmod(most, max(1, len(order)))
        shares = {url: share + (index < rest) for index, url in enumerate(order)}
        passed: dict[str, StoredResponse] = {}

        async def pass_walls_of_site(site: list[tuple[str, StoredResponse]]) -> None:
            is_vain = False
            for url, response in site:
                is_page = response.location is None
                if response.requests == 1 and not (is_page and is_vain):
                    response = await self._pass_cookie_wall(url, response, shares[url])
                passed[url] = response
                is_vain |= response.requests > 1 and response.facts.asks_for_cookies

        await asyncio.gather(*(pass_walls_of_site(site) for site in walls.values()))
        return passed

    def _way_behind(self, url: str, response: StoredResponse) -> list[str]:
        if response.reason or not response.cookies:
            return []
        return _wall_of(url, response).way_behind(self.cookies.cookies_for(url))

    async def _pass_cookie_wall(
        self, url: str, response: StoredResponse, most: int
    ) -> StoredResponse:
        """Response of a page behind its wall, stored in place of the first.

        Args:
            url: The page.
            response: Its first response.
            most: Requests to make, at most.
        """
        jar = self.cookies.cookies_for(url)

        async def fetch(address: str, cookies: Sequence[str]) -> FetchResult:
            if origin_of(address) not in self._rules or self._refuse(address) is not None:
                return FetchResult(reason="it may not be asked for")
            given = self._conditions_of(url) if address == url else {}
            return await self._fetch_with_retries(address, 0, given, cookies)

        passage = await pass_cookie_wall(_wall_of(url, response), jar, fetch, most)
        if passage.fetched is not None:
            passage.fetched.cookies = passage.cookies
            passage.fetched.requests += passage.requests
            await self._store_fetched(url, passage.fetched, jar)
        elif passage.requests:
            self.responses.note_requests(url, 1 + passage.requests)
        passed = self.responses.load_response(url)
        assert passed is not None
        self.cookies.note_cookies(url, passed.cookies)
        return passed

    async def repeat_page(self, url: str) -> tuple[PageFingerprint, PageFingerprint]:
        """Fingerprints of a fetched page and of the same page asked for once more."""
        first = self.responses.load_response(url)
        assert first is not None
        key = f"again {url}"
        again = self.responses.load_response(key)
        if again is None:
            fetched = await self._fetch_with_retries(url, 0, {}, self.cookies.cookies_for(url))
            again = self._store_page(url, fetched, None, key)
        # A page that does not come again says nothing, so its numbers count as content.
        return first.facts.fingerprint, (first if again.reason else again).facts.fingerprint

    def carry_over_page(self, url: str, reason: str) -> StoredResponse:
        """Previous capture of a page that is not requested, where it may still be kept.

        Args:
            url: The page, whose site ``learn_sites`` has seen.
            reason: Why it is not requested.
        """
        refusal = self._refuse(url)
        if refusal is None or refusal.transient:
            refusal = StoredResponse(reason=reason, transient=True, asked=False)
            return self.responses.load_response(url) or self._reuse_previous(url, refusal)
        return refusal

    def _reuse_previous(self, url: str, refusal: StoredResponse) -> StoredResponse:
        """Previous capture of a page, marked with the refusal's reason; else the refusal."""
        fetched = FetchResult(reason=refusal.reason, transient=True)
        capture = (
            self.previous.reuse_after_failure(url, fetched) if self.previous is not None else None
        )
        return self._store_page(url, fetched, capture) if capture is not None else refusal

    async def learn_sites(self, urls: Sequence[str]) -> None:
        """Fetch robots rules and opt-outs of every site that is met for the first time.

        A wave begins with it, so the cookies of the wave before count from here on.
        """
        self.cookies.begin_wave()
        origins = list(dict.fromkeys(map(origin_of, urls)))
        await self._learn_rules(origins)
        readable = [site for site in origins if site not in self._sites and self._may_ask(site)]
        sites = await asyncio.gather(
            *(
                fetch_site_signals(site, self._rules[site].text, self._fetch_site_file)
                for site in readable
            )
        )
        self._sites.update(zip(readable, sites, strict=True))

    async def _learn_rules(self, sites: Iterable[str]) -> None:
        """Fetch the robots rules of every site that is new."""
        origins = [site for site in dict.fromkeys(sites) if site not in self._rules]
        agent = self.policy.agent
        rules = await asyncio.gather(
            *(fetch_robots_rules(f"{site}/", self.fetch_text, agent) for site in origins)
        )
        self._rules.update(zip(origins, rules, strict=True))
        for site in origins:
            if site in self._limiters and not self._limiters[site].closed_reason:
                del self._limiters[site]  # the next one knows the asked delay

    def rules_of(self, site_origin: str) -> RobotsRules | None:
        """Robots rules of a known site; None where they let nothing be asked for."""
        return self._rules[site_origin] if self._may_ask(site_origin) else None

    async def refuse_site_file(self, url: str, is_invited: bool) -> str:
        """Reason for which a file about a site may not be requested; empty where it may.

        Args:
            url: The file, on any site.
            is_invited: True where robots.txt names the file itself.
        """
        if self.policy.blocklist.covers(url):
            return BLOCKED_REASON
        if is_invited:
            return ""
        await self._learn_rules([origin_of(url)])
        rules = self._rules[origin_of(url)]
        if rules.forbids_url(url, self.policy.agent):
            return rules.reason
        return "" if self._may_ask(origin_of(url)) else _SLOW_REASON

    def estimate_seconds(self, requests: Mapping[str, float]) -> float | None:
        """Time of so many requests by site; None where no site has answered yet."""
        return estimate_seconds(requests, self._limiters)

    def _may_ask(self, site_origin: str) -> bool:
        """True where a site's robots.txt is readable and asks for an acceptable crawl delay."""
        rules = self._rules[site_origin]
        return (
            rules.protego is not None and rules.crawl_delay(self.policy.agent) <= MAX_WAIT_SECONDS
        )

    def site_signals(self, url: str) -> list[OptoutSignal]:
        """Opt-out signals of the page's site, of its previous crawl where it fails now."""
        site, policy = self._sites.get(origin_of(url)), self.policy
        if site is None and self.previous is not None and self._rules[origin_of(url)].transient:
            return self.previous.site_signals(url)
        return (
            site.signals_for(url, policy.agent, policy.optout_config.agents)
            if site is not None
            else []
        )

    def _refuse(self, url: str) -> StoredResponse | None:
        """Response that stands for a page which may not be requested; None where it may."""
        if self.policy.blocklist.covers(url):
            return StoredResponse(reason=BLOCKED_REASON, asked=False)
        rules = self._rules[origin_of(url)]
        if rules.forbids_url(url, self.policy.agent):
            unread = rules.protego is None
            return StoredResponse(reason=rules.reason, transient=rules.transient, asked=unread)
        if not self._may_ask(origin_of(url)):
            return StoredResponse(reason=_SLOW_REASON, asked=False)
        if self.policy.optout_config.policy == "honour":
            # A page may lift its site's TDMRep reservation, and no other signal.
            final = [signal for signal in self.site_signals(url) if signal.kind != "tdmrep"]
            if reason := denial_reason(final):
                return StoredResponse(reason=reason, asked=False)
        return None

    async def _load_or_fetch(self, url: str) -> StoredResponse:
        response = self.responses.load_response(url)
        if response is None:
            response = await self._fetch_and_store(url)
        self.cookies.note_cookies(url, response.cookies)
        return response

    async def _fetch_and_store(self, url: str) -> StoredResponse:
        jar = self.cookies.cookies_for(url)
        fetched = await self._fetch_with_retries(url, 0, self._conditions_of(url), jar)
        return await self._store_fetched(url, fetched, jar)

    def _conditions_of(self, url: str) -> dict[str, str]:
        return self.previous.request_conditions(url) if self.previous is not None else {}

    async def _store_fetched(
        self, url: str, fetched: FetchResult, jar: Sequence[str]
    ) -> StoredResponse:
        """Store a page's response, or the previous capture that it confirms.

        Args:
            url: The page.
            fetched: Its response.
            jar: Cookies to choose from, where it has to be fetched again.
        """
        capture = self.previous.match_unchanged(url, fetched) if self.previous else None
        if fetched.is_not_modified and capture is None:  # the previous capture cannot be read
            fetched = await self._fetch_with_retries(url, 0, {}, jar)
        if fetched.transient and self.previous is not None:
            capture = self.previous.reuse_after_failure(url, fetched)
        return self._store_page(url, fetched, capture)

    def _store_page(
        self, url: str, fetched: FetchResult, capture: PreviousCapture | None, key: str = ""
    ) -> StoredResponse:
        """Store a page's response, with the facts that the crawl needs of the page.

        Args:
            url: The page.
            fetched: Its response.
            capture: The earlier capture that it stands for, None for none.
            key: Key of the response where it is not ``url``.
        """
        facts = PageFacts()
        if fetched.body:
            agent, optouts = self.policy.agent, self.policy.optout_config
            facts = read_page_facts(fetched.body, url, fetched.headers, agent, optouts)
            if capture is not None and capture.trouble:
                signals = [replace(signal, date=capture.date) for signal in facts.signals]
                facts = replace(facts, signals=signals)
        if fetched.refresh is not None:
            facts = replace(facts, links=[*facts.links, fetched.refresh])
        if fetched.unfollowed:
            facts = replace(facts, unfollowed={**fetched.unfollowed, **facts.unfollowed})
        return self.responses.store_response(key or url, fetched, facts, capture)

    async def fetch_text(self, url: str, limit: int) -> FetchResult:
        """A file about a site, with its body."""
        key = f"text {url}"
        response = self.responses.load_response(key)
        if response is None:
            response = self.responses.store_response(
                key, await self._fetch_with_retries(url, limit, {}), PageFacts()
            )
        return FetchResult(
            response.status,
            response.reason,
            self.responses.load_body(key),
            location=response.location,
            transient=response.transient,
        )

    async def _fetch_site_file(self, url: str) -> str:
        fetched = await fetch_following_redirects(url, MAX_SITE_FILE_BYTES, self.fetch_text)
        return decode_site_file(fetched.body) if not fetched.reason else ""

    async def _fetch_with_retries(
        self, url: str, limit: int, conditions: dict[str, str], cookies: Sequence[str] = ()
    ) -> FetchResult:
        """Fetch at the host's pace, and again after a transient failure.

        A page that is cut off at the same byte twice is taken as it is.

        Args:
            url: The page or text.
            limit: Bytes of a text to read; 0 for a page.
            conditions: Headers of a conditional request.
            cookies: Cookies to choose from.
        """
        cut_body = b""
        wait = self.policy.backoff_seconds
        for tries_left in range(self.policy.retries, -1, -1):
            limiter = self._limiter_of(url)
            async with limiter as started:
                if limiter.closed_reason:
                    return FetchResult(reason=limiter.closed_reason, transient=True)
                fetched = await self.http.fetch_url(
                    url, text_limit=limit, conditions=conditions, cookies=cookies
                )
            if not fetched.transient or (fetched.body and fetched.body == cut_body):
                fetched.transient = False
                limiter.record_success()
                break
            cut_body, closed_reason = fetched.body, ""
            if fetched.status in (0, 429, 503):
                closed_reason = limiter.record_refusal(started, fetched.wait_seconds)
            if closed_reason:
                fetched.reason += f", and {closed_reason}"
            if closed_reason or tries_left == 0:
                break
            await asyncio.sleep(wait)
            wait = min(wait * 2, MAX_WAIT_SECONDS)
        return fetched

    def _limiter_of(self, url: str) -> HostRateLimiter:
        site = origin_of(url)  # a server is a host's port: two of them are two
        if site not in self._limiters:
            policy, rules = self.policy, self._rules.get(site)
            delay_seconds = max(
                policy.delay_seconds, rules.crawl_delay(policy.agent) if rules else 0
            )
            # One request at a time where a pause is asked for.
            slots = 1 if delay_seconds else policy.concurrency
            self._limiters[site] = HostRateLimiter(
                asyncio.Semaphore(slots), delay_seconds, policy.backoff_seconds
            )
        return self._limiters[site]


def _wall_of(url: str, response: StoredResponse) -> CookieWall:
    return CookieWall(url, response.location, response.cookies, response.facts.asks_for_cookies)
