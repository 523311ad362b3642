"""Frontier of a crawl: visits that are due, in waves of one distance from the seeds.

What looks like a file is due last, since most files are no pages. A wave holds no more addresses of
one shape than the shape has had pages (and at least twice ``max_barren``), so that a trap is seen
for one before its links have multiplied.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from components.collect.crawl.crawl_traps import TrapDetector, file_kind
from components.collect.web.urls import origin_of

MAX_WAVE = 5_000
"""Visits of a wave, whose responses are in memory together."""


@dataclass(frozen=True)
class Visit:
    """A page to be fetched."""

    url: str
    depth: int
    chain: tuple[str, ...] = ()
    """Redirects that led here, first to last."""
    is_seed: bool = False
    shapes: tuple[str, ...] = ()
    """Shapes that traps are counted by."""
    is_vouched: bool = False
    """True for addresses of finite lists (seeds, sitemaps, the previous crawl), which no trap
    makes."""


class Frontier:
    """Visits by distance, in the order in which they were added."""

    def __init__(self, traps: TrapDetector) -> None:
        """Start empty; ``traps`` says how many pages of a shape a wave may hold."""
        self._traps = traps
        self._due: dict[tuple[bool, int], list[Visit]] = defaultdict(list)

    def __iter__(self) -> Iterator[Visit]:
        return (visit for visits in self._due.values() for visit in visits)

    def __len__(self) -> int:
        return sum(map(len, self._due.values()))

    def add_visits(self, visits: Iterable[Visit]) -> None:
        """Add visits behind those of their distance."""
        for visit in visits:
            self._due[bool(file_kind(visit.url)), visit.depth].append(visit)

    def take_wave(self) -> list[Visit]:
        """Take the next wave: visits of the least distance, as many of each shape as may be."""
        if not self._due:
            return []
        nearest = min(self._due)
        taken: Counter[str] = Counter()
        wave: list[Visit] = []
        left: list[Visit] = []
        for visit in self._due.pop(nearest):
            is_full = len(wave) >= MAX_WAVE
            if is_full or any(
                taken[shape] >= self._traps.wave_share(shape) for shape in visit.shapes
            ):
                left.append(visit)
            else:
                taken.update(visit.shapes)
                wave.append(visit)
        if left:
            self._due[nearest] = left
        return wave


class CrawlOutlook:
    """Requests still to come as far as is known: planned visits, and links of this wave's pages."""

    def __init__(self) -> None:
        self._due: Counter[str] = Counter()
        """Site -> planned visits that were not fetched."""
        self._glimpsed: set[str] = set()
        """New addresses on pages of this wave, which are planned when the wave is done."""
        self._glimpsed_at: Counter[str] = Counter()

    def add_due(self, url: str) -> None:
        """Count a planned visit."""
        self._due[origin_of(url)] += 1

    def remove_due(self, url: str) -> None:
        """Count a visit as made, or as not to be made."""
        self._due[origin_of(url)] -= 1

    def glimpse_links(self, urls: Iterable[str]) -> None:
        """Count the links of one fetched page that nothing named before."""
        new = set(urls) - self._glimpsed
        self._glimpsed |= new
        self._glimpsed_at.update(map(origin_of, new))

    def close_wave(self) -> None:
        """Forget glimpsed links, which are planned by now."""
        self._glimpsed.clear()
        self._glimpsed_at.clear()

    def expected_requests(self, most: int) -> dict[str, float]:
        """Requests still to come, by site.

        Args:
            most: What the budget has left.
        """
        sites = self._due + self._glimpsed_at
        known = sites.total()
        return {site: count * min(1.0, most / known) for site, count in sites.items()}
