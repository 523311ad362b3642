"""A site's opt-outs: robots.txt groups for AI robots, preferences, ``tdmrep.json``, ``ai.txt``."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.collect.optouts.ai_preferences import KEYS, read_preferences, split_path
from components.collect.optouts.optout_policy import Signal, reservation
from components.collect.optouts.robots_groups import (
    RobotsFile,
    matches,
    path_of,
    read_groups,
    ruling,
)

ROBOTS = "/robots.txt"
TDMREP = "/.well-known/tdmrep.json"
AI_TXT = "/ai.txt"
MAX_BYTES = 1024 * 1024
GetText = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class Reservation:
    """One rule of ``tdmrep.json``."""

    location: str
    reserved: bool
    evidence: str


@dataclass(frozen=True)
class SiteSignals:
    """All that one site says, to be asked page by page."""

    start: str
    """``https://host`` of the site."""
    robots: RobotsFile
    reservations: Sequence[Reservation]
    ai_txt: RobotsFile

    def of(self, url: str, agent: str, robots: Sequence[str]) -> list[Signal]:
        """What it says of ``url`` to ``agent``, and to ``robots`` that collect for training."""
        path = path_of(url)
        return [
            *self._tdmrep(path),
            *self._refused(path, robots),
            *self._preferences(path, agent),
            *self._ai_txt(path, agent),
            *self._licences(),
        ]

    def _tdmrep(self, path: str) -> Iterator[Signal]:
        """The longest location that fits; of equals, the one that reserves."""
        fitting = [rule for rule in self.reservations if matches(rule.location, path)]
        if fitting:
            rule = max(fitting, key=lambda r: (len(r.location), r.reserved))
            yield reservation(rule.reserved, rule.evidence, f"{self.start}{TDMREP}")

    def _refused(self, path: str, robots: Sequence[str]) -> Iterator[Signal]:
        """Robots that a group names and keeps off; ``*`` speaks of crawling, not of AI."""
        for robot in robots:
            rule = ruling(self.robots.lines_for(robot), path)
            if rule is not None and rule.key == "disallow":
                evidence = f"User-agent: {robot}\n{rule.raw}"
                source = f"{self.start}{ROBOTS}"
                yield Signal("robots-agent", robot, "denied", evidence, source)

    def _preferences(self, path: str, agent: str) -> Iterator[Signal]:
        """The longest path that fits decides, for each kind of line."""
        lines = [*self.robots.general, *self.robots.lines_of(agent)]
        for key in KEYS:
            fitting = [
                (split_path(line.value), line.raw)
                for line in lines
                if line.key == key and matches(split_path(line.value)[0], path)
            ]
            longest = max((len(at) for (at, _), _ in fitting), default=0)
            for (at, value), raw in fitting:
                if len(at) == longest:
                    yield from read_preferences(key, value, raw, f"{self.start}{ROBOTS}")

    def _ai_txt(self, path: str, agent: str) -> Iterator[Signal]:
        """Spawning's ai.txt: a robots file whose patterns need no slash and name kinds of files.

        A page without an ending is an HTML page.
        """
        name = path.partition("?")[0]
        spelled = name if "." in name.rpartition("/")[2] else f"{name.rstrip('/')}/index.html"
        rule = ruling(self.ai_txt.lines_of(agent), spelled)
        if rule is not None and rule.key == "disallow":
            yield Signal("ai.txt", rule.value, "denied", rule.raw, f"{self.start}{AI_TXT}")

    def _licences(self) -> Iterator[Signal]:
        """Really Simple Licensing: where robots.txt says the site's terms lie."""
        for line in self.robots.general:
            if line.key == "license" and line.value:
                source = f"{self.start}{ROBOTS}"
                yield Signal("licence", line.value, "noted", line.raw, source)


async def read_site(start: str, robots: str, get: GetText) -> SiteSignals:
    """All statements of the site at ``start``, whose robots.txt is ``robots``.

    A file that cannot be had says nothing: neither report makes a silence a no.
    """
    tdmrep, ai_txt = await get(f"{start}{TDMREP}"), await get(f"{start}{AI_TXT}")
    return SiteSignals(start, read_groups(robots), read_reservations(tdmrep), read_groups(ai_txt))


def read_reservations(text: str) -> list[Reservation]:
    """Rules of a ``tdmrep.json``; what is no rule is passed over."""
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return []
    rules = given if isinstance(given, list) else [given]
    return [rule for one in rules if (rule := _reservation(one)) is not None]


def _reservation(given: Any) -> Reservation | None:
    if not isinstance(given, dict):
        return None
    location, said = given.get("location"), str(given.get("tdm-reservation")).strip()
    if not isinstance(location, str) or not location or said not in ("0", "1"):
        return None
    pattern = location if location.startswith(("/", "*")) else f"/{location}"
    return Reservation(pattern, said == "1", json.dumps(given, sort_keys=True)[:1000])
