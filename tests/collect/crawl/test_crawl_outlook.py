"""Time that a crawl still takes, as it is estimated on the way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from components.collect.crawl import host_rate_limiter
from components.collect.crawl.frontier import CrawlOutlook
from components.collect.crawl.host_rate_limiter import HostRateLimiter, estimate_seconds
from components.collect.scrape import scrape
from components.core.progress import Progress
from components.core.store.workdir import Workdir
from tests.collect import endless_sites as sites
from tests.collect.crawling import config


class PausesOnly:
    """A clock that only pauses move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def read(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> PausesOnly:
    made = PausesOnly()
    monkeypatch.setattr(host_rate_limiter, "monotonic", made.read)
    monkeypatch.setattr(host_rate_limiter, "sleep", made.sleep)
    return made


def tree(count: int, branches: int) -> sites.Site:
    """Pages of which each names so many others, as chapters and sections do."""

    def page(address: str) -> str | None:
        number = int(address.strip("/") or "0")
        below = range(number * branches + 1, min(count, number * branches + branches + 1))
        return sites.story(f"page{number}") + "".join(sites.link(f"/{n}") for n in below)

    return page


def observe_estimates(work: Workdir, clock: PausesOnly) -> list[tuple[float, float]]:
    """(time, estimated end) after each page, filled as the crawl goes on."""
    estimates: list[tuple[float, float]] = []

    def note(progress: Progress) -> None:
        if progress.eta_seconds is not None:
            estimates.append((clock.now, clock.now + progress.eta_seconds))

    work.progress.listener = note
    return estimates


def errors_by_third(estimates: list[tuple[float, float]], end: float) -> list[float]:
    """Mean error of the estimated end, as a share of the whole time, in each third of the time."""
    start = estimates[0][0]
    thirds: list[list[float]] = [[], [], []]
    for now, expected in estimates:
        third = min(2, int(3 * (now - start) / (end - start)))
        thirds[third].append(abs(expected - end) / (end - start))
    return [sum(errors) / len(errors) for errors in thirds]


@pytest.mark.parametrize(("count", "branches"), [(240, 3), (240, 12), (240, 239)])
def test_the_estimate_gets_better(
    work: Workdir, web: Any, clock: PausesOnly, count: int, branches: int
) -> None:
    sites.serve(web, tree(count, branches))
    estimates = observe_estimates(work, clock)
    scrape(config(web, delay_seconds=2, max_depth=1000), work)
    errors = errors_by_third(estimates, clock.now)
    assert errors[2] <= min(errors[1], 0.12)
    assert errors[1] < errors[0] or errors[0] < 0.02


async def request_pages(limiter: HostRateLimiter, clock: PausesOnly, idle: float) -> None:
    for _ in range(40):
        async with limiter:
            clock.now += 0.5
        clock.now += idle


def test_the_slowest_host_counts(clock: PausesOnly) -> None:
    """Time between the requests of a host counts while one waits, and not while none is due."""
    limiters = {
        name: HostRateLimiter(asyncio.Semaphore(1), delay, 0.5)
        for name, delay in (("fast", 0.0), ("slow", 30.0), ("new", 3.0))
    }
    asyncio.run(request_pages(limiters["fast"], clock, idle=100.0))
    assert limiters["fast"].seconds_per_request == pytest.approx(0.5)
    assert estimate_seconds({"fast": 100.0, "new": 1.0}, limiters) == pytest.approx(50)
    assert estimate_seconds({"new": 10.0}, limiters) == pytest.approx(30)
    assert estimate_seconds({"unknown": 10.0}, limiters) == pytest.approx(5)
    asyncio.run(request_pages(limiters["slow"], clock, idle=0.0))
    assert limiters["slow"].seconds_per_request == pytest.approx(30, rel=0.02)
    assert estimate_seconds({"fast": 100.0, "slow": 10.0}, limiters) == pytest.approx(300, rel=0.02)
    assert estimate_seconds({}, limiters) == 0
    assert estimate_seconds({"new": 10.0}, {"new": limiters["new"]}) is None


def test_the_budget_bounds_the_estimate() -> None:
    outlook = CrawlOutlook()
    for number in range(10):
        outlook.add_due(f"http://a.example/{number}")
    assert outlook.expected_requests(1000) == {"http://a.example": 10}
    outlook.glimpse_links(f"http://b.example/{number}" for number in range(10))
    outlook.glimpse_links(f"http://b.example/{number}" for number in range(5))
    assert outlook.expected_requests(1000) == {"http://a.example": 10, "http://b.example": 10}
    assert sum(outlook.expected_requests(15).values()) == pytest.approx(15)
    for number in range(10):
        outlook.remove_due(f"http://a.example/{number}")
    outlook.close_wave()
    assert outlook.expected_requests(1000) == {}
