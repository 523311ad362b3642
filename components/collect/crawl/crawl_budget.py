"""Bounds of a crawl, and its budget of requests: in all and by host, some for known pages alone.

Repeats of a request count too, as the pages of a wave do. Known pages are those of the previous
crawl: a new URL is requested only where enough is left for all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.web.urls import host_of
from components.core.config.blocklist import Blocklist

MAX_DEPTH_REASON = "more links from a seed than scrape.max_depth"
MAX_PAGES_REASON = "the budget is used up (scrape.max_pages)"
HOST_BUDGET_REASON = "the budget of its host is used up (scrape.max_pages_per_host)"
OUTSIDE_REASON = "outside the crawl (scrape.hosts)"
BUDGET_SPENT = "not asked for: the budget (scrape.max_pages, max_pages_per_host) was used up"
"""Trouble of a page that is therefore kept as the previous crawl has it."""


@dataclass(frozen=True)
class PolitenessPolicy:
    """Bounds of a crawl, and the politeness policy towards a host (see ``ScrapeConfig``)."""

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
    optout_config: OptoutConfig


class CrawlBudget:
    """Requests made and planned, against ``max_pages`` and ``max_pages_per_host``."""

    def __init__(self, max_pages: int, max_pages_per_host: int) -> None:
        self.max_pages = max_pages
        self._max_pages_per_host = max_pages_per_host
        self.requests = 0
        self._by_host: Counter[str] = Counter()
        """Requests planned or made, by host."""
        self._reserved: Counter[str] = Counter()
        """Known pages that were not visited yet, by host."""

    def reserve_pages(self, urls: Iterable[str]) -> None:
        """Reserve a request for each known page."""
        self._reserved.update(map(host_of, urls))

    def release_page(self, url: str) -> None:
        """Take back the reservation of a known page, which is planned now."""
        self._reserved[host_of(url)] -= 1

    def plan_request(self, url: str) -> None:
        """Count a planned request against its host's budget."""
        self._by_host[host_of(url)] += 1

    def cancel_request(self, url: str) -> None:
        """Take back a planned request that will not be made."""
        self._by_host[host_of(url)] -= 1

    def restore_requests(self, made: int, known: Iterable[str]) -> None:
        """Count the requests of an earlier crawl, and those that are due.

        Args:
            made: Requests that were made.
            known: Addresses that were requested or will be.
        """
        self.requests = made
        self._by_host.update(map(host_of, known))

    def count_repeats(self, url: str, count: int) -> None:
        """Count further requests for a page that was asked for already."""
        self.requests += count
        self._by_host[host_of(url)] += count

    def is_host_spent(self, url: str, has_priority: bool) -> bool:
        """True where the budget of a URL's host has no request left for it.

        Args:
            url: The URL.
            has_priority: True for a page that requests are reserved for.
        """
        host = host_of(url)
        reserved = 0 if has_priority else self._reserved[host]
        return self._by_host[host] + reserved >= self._max_pages_per_host

    def requests_left(self, hosts: Collection[str]) -> int:
        """Requests left for new pages, those reserved at ``hosts`` aside."""
        reserved = sum(count for host, count in self._reserved.items() if host in hosts)
        return max(0, self.max_pages - self.requests - reserved)

    def choose_affordable(self, has_priority: Sequence[bool], hosts: Collection[str]) -> list[bool]:
        """Decide for each visit of a wave whether there is a request left for it, in its order.

        Args:
            has_priority: For each visit, True for a page that requests are reserved for.
            hosts: Hosts that the crawl may enter.
        """
        left = self.max_pages - self.requests
        reserved = sum(count for host, count in self._reserved.items() if host in hosts)
        budget_left = {True: left, False: left - sum(has_priority) - reserved}
        affordable = []
        for is_reserved in has_priority:
            budget_left[is_reserved] -= 1
            affordable.append(budget_left[is_reserved] >= 0)
        return affordable
