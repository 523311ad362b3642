"""Parser of robots files by group, and matcher of their path patterns.

A robots.txt (RFC 9309) is a list of groups: one or more ``User-agent`` lines, then rules. Protego
answers whether a robot may fetch a page; here the groups are kept as they were written, since an
opt-out is recorded with its own words, and since preferences stand in lines Protego does not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

MAX_LINES = 20_000
"""Lines read of one file: bounds the time that a hostile one takes."""
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class RobotsLine:
    """One ``key: value`` line, parsed and as it was written."""

    key: str
    value: str
    raw: str


@dataclass(frozen=True)
class RobotsFile:
    """Groups of a robots file, and its lines outside of groups."""

    by_agent: dict[str, list[list[RobotsLine]]]
    """Groups by robot's name in lower case; robots that one group names share its list."""
    general: list[RobotsLine]
    """Lines that belong to no group: ``License``, ``Sitemap``, preferences above all groups."""

    def own_lines(self, agent: str) -> list[RobotsLine]:
        """Lines of groups that name this robot."""
        return [line for group in self.by_agent.get(agent.lower(), ()) for line in group]

    def binding_lines(self, agent: str) -> list[RobotsLine]:
        """Lines that bind ``agent``: its own groups', else those for everyone."""
        return self.own_lines(agent if agent.lower() in self.by_agent else "*")


def parse_robots_groups(text: str) -> RobotsFile:
    """Parse a robots file; malformed lines are skipped."""
    by_agent: dict[str, list[list[RobotsLine]]] = {}
    general: list[RobotsLine] = []
    group: list[RobotsLine] | None = None  # the open one, which more robots join while it is empty
    for raw in text.removeprefix("\ufeff").splitlines()[:MAX_LINES]:
        key, colon, value = raw.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon or not key:
            continue
        if key == "user-agent":
            agent = value.lower().partition("/")[0].strip()  # a product token, without version
            group = [] if group is None or group else group
            agent_groups = by_agent.setdefault(agent, [])
            if not agent_groups or agent_groups[-1] is not group:
                agent_groups.append(group)
        elif key in ("sitemap", "license") or group is None:
            general.append(RobotsLine(key, value, raw.strip()))
        else:
            group.append(RobotsLine(key, value, raw.strip()))
    return RobotsFile(by_agent, general)


def extract_agent_rules(text: str, agent: str) -> str:
    """Extract the part of a robots file that binds ``agent``, as a file for everyone.

    A parser that gives each robot a copy of its group's rules takes gigabytes for a file of ten
    thousand robots and as many rules.
    """
    robots_file = parse_robots_groups(text)
    lines = [
        *robots_file.general,
        RobotsLine("", "", "User-agent: *"),
        *robots_file.binding_lines(agent),
    ]
    return "\n".join(line.raw for line in lines)


def path_and_query(url: str) -> str:
    """Path and query of a URL, which patterns are matched against."""
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def matches_pattern(pattern: str, path: str) -> bool:
    """Match a pattern with ``*`` and a closing ``$`` against a path (RFC 9309, section 2.2.3).

    Takes time linear in the path: between two stars, the first match is as good as any.
    """
    if not pattern.isascii():  # paths are percent-encoded
        pattern = quote(pattern, safe="/%:@!$&'()*+,;=~-._?")
    if "%" in pattern or "%" in path:
        pattern, path = _normalise_escapes(pattern), _normalise_escapes(path)
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    if not rest:
        return len(path) == len(first) or not anchored
    at = len(first)
    for part in rest[:-1]:
        index = path.find(part, at)
        if index < 0:
            return False
        at = index + len(part)
    if anchored:
        return path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at
    return path.find(rest[-1], at) >= 0


def _normalise_escapes(path: str) -> str:
    """Path with percent-encoding only where needed, in capitals (RFC 9309, section 2.2.2)."""
    return _ENCODED.sub(_normalise_escape, path)


def _normalise_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    is_plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if is_plain else match[0].upper()


def find_deciding_rule(lines: Iterable[RobotsLine], path: str) -> RobotsLine | None:
    """Find the allow or disallow line that decides on ``path``: the longest, of equals an allow."""
    matching = [
        line
        for line in lines
        if line.key in ("allow", "disallow") and line.value and matches_pattern(line.value, path)
    ]
    return max(matching, key=lambda line: (len(line.value), line.key == "allow"), default=None)
