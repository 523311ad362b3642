"""Opt-out signals of a site: robots.txt groups for AI robots, AI preferences, tdmrep.json, ai.txt.

A site's files are fetched once; the signals that bear on a page are then selected by its path.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from components.collect.optouts.ai_preferences import PREFERENCE_KEYS, parse_preferences, split_path
from components.collect.optouts.optout_policy import OptoutSignal, tdmrep_signal
from components.collect.optouts.robots_groups import (
    RobotsFile,
    find_deciding_rule,
    matches_pattern,
    parse_robots_groups,
    path_and_query,
)

ROBOTS_PATH = "/robots.txt"
TDMREP_PATH = "/.well-known/tdmrep.json"
AI_TXT_PATH = "/ai.txt"
MAX_SITE_FILE_BYTES = 1024 * 1024
FetchSiteFile = Callable[[str], Awaitable[str]]


@dataclass(frozen=True)
class TdmReservation:
    """One rule of ``tdmrep.json``."""

    location: str
    reserved: bool
    evidence: str


@dataclass(frozen=True)
class SiteSignals:
    """Opt-out files of one site, parsed."""

    origin: str
    """``https://host`` of the site."""
    robots: RobotsFile
    reservations: Sequence[TdmReservation]
    ai_txt: RobotsFile

    def signals_for(self, url: str, agent: str, robots: Sequence[str]) -> list[OptoutSignal]:
        """Signals that bear on a page.

        Args:
            url: The page.
            agent: The crawler's product token.
            robots: Names of robots that collect for training.
        """
        path = path_and_query(url)
        return [
            *self._tdmrep_signals(path),
            *self._robots_signals(path, robots),
            *self._preference_signals(path, agent),
            *self._ai_txt_signals(path, agent),
            *self._licence_signals(),
        ]

    def _tdmrep_signals(self, path: str) -> Iterator[OptoutSignal]:
        """TDMRep rule with the longest matching location; of equals, the one that reserves."""
        matching = [rule for rule in self.reservations if matches_pattern(rule.location, path)]
        if matching:
            rule = max(matching, key=lambda r: (len(r.location), r.reserved))
            yield tdmrep_signal(rule.reserved, rule.evidence, f"{self.origin}{TDMREP_PATH}")

    def _robots_signals(self, path: str, robots: Sequence[str]) -> Iterator[OptoutSignal]:
        """Denials of robots that a group names; a ``*`` group is about crawling, not about AI."""
        for robot in robots:
            rule = find_deciding_rule(self.robots.own_lines(robot), path)
            if rule is not None and rule.key == "disallow":
                evidence = f"User-agent: {robot}\n{rule.raw}"
                source = f"{self.origin}{ROBOTS_PATH}"
                yield OptoutSignal("robots-agent", robot, "denied", evidence, source)

    def _preference_signals(self, path: str, agent: str) -> Iterator[OptoutSignal]:
        """Preference lines with the longest matching path, for each kind of line."""
        lines = [*self.robots.general, *self.robots.binding_lines(agent)]
        for key in PREFERENCE_KEYS:
            matching = [
                (split_path(line.value), line.raw)
                for line in lines
                if line.key == key and matches_pattern(split_path(line.value)[0], path)
            ]
            longest = max((len(at) for (at, _), _ in matching), default=0)
            for (at, value), raw in matching:
                if len(at) == longest:
                    yield from parse_preferences(key, value, raw, f"{self.origin}{ROBOTS_PATH}")

    def _ai_txt_signals(self, path: str, agent: str) -> Iterator[OptoutSignal]:
        """Spawning's ai.txt: a robots file whose patterns need no slash and name file types.

        A page without a file ending is matched as an HTML page.
        """
        name = path.partition("?")[0]
        file_name = name if "." in name.rpartition("/")[2] else f"{name.rstrip('/')}/index.html"
        rule = find_deciding_rule(self.ai_txt.binding_lines(agent), file_name)
        if rule is not None and rule.key == "disallow":
            yield OptoutSignal(
                "ai.txt", rule.value, "denied", rule.raw, f"{self.origin}{AI_TXT_PATH}"
            )

    def _licence_signals(self) -> Iterator[OptoutSignal]:
        """Really Simple Licensing: addresses of the site's terms in robots.txt."""
        for line in self.robots.general:
            if line.key == "license" and line.value:
                source = f"{self.origin}{ROBOTS_PATH}"
                yield OptoutSignal("licence", line.value, "noted", line.raw, source)


async def fetch_site_signals(origin: str, robots: str, fetch_text: FetchSiteFile) -> SiteSignals:
    """Fetch and parse a site's opt-out files.

    A file that cannot be fetched makes no statement: neither specification makes silence a denial.

    Args:
        origin: ``https://host`` of the site.
        robots: Text of its robots.txt.
        fetch_text: Fetches a file's text; empty where it fails.
    """
    tdmrep, ai_txt = (
        await fetch_text(f"{origin}{TDMREP_PATH}"),
        await fetch_text(f"{origin}{AI_TXT_PATH}"),
    )
    return SiteSignals(
        origin, parse_robots_groups(robots), parse_reservations(tdmrep), parse_robots_groups(ai_txt)
    )


def parse_reservations(text: str) -> list[TdmReservation]:
    """Parse the rules of a ``tdmrep.json``; malformed ones are skipped."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return []
    rules = document if isinstance(document, list) else [document]
    return [rule for item in rules if (rule := _parse_reservation(item)) is not None]


def _parse_reservation(item: Any) -> TdmReservation | None:
    if not isinstance(item, dict):
        return None
    location, value = item.get("location"), str(item.get("tdm-reservation")).strip()
    if not isinstance(location, str) or not location or value not in ("0", "1"):
        return None
    pattern = location if location.startswith(("/", "*")) else f"/{location}"
    return TdmReservation(pattern, value == "1", json.dumps(item, sort_keys=True)[:1000])
