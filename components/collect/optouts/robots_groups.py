"""Robots files by group, and path patterns: what AI preferences in them are read by.

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
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Line:
    """One line ``key: value`` of a group, and as it was written."""

    key: str
    value: str
    raw: str


@dataclass(frozen=True)
class RobotsFile:
    """All groups of a file, and its lines outside of them."""

    by_agent: dict[str, list[list[Line]]]
    """Groups that name a robot, by its name in lower case; robots share them, however many."""
    general: list[Line]
    """Lines that belong to no group: ``License``, ``Sitemap``, preferences above all groups."""

    def lines_for(self, agent: str) -> list[Line]:
        """Lines of groups for this very robot."""
        return [line for group in self.by_agent.get(agent.lower(), ()) for line in group]

    def lines_of(self, agent: str) -> list[Line]:
        """Lines that ``agent`` has to obey: its own groups', else everyone's."""
        return self.lines_for(agent if agent.lower() in self.by_agent else "*")


def read_groups(text: str) -> RobotsFile:
    """Read a robots file; lines that are none are passed over."""
    by_agent: dict[str, list[list[Line]]] = {}
    general: list[Line] = []
    group: list[Line] | None = None  # the one in hand; another robot joins it while it is empty
    for raw in text.removeprefix("\ufeff").splitlines()[:MAX_LINES]:
        key, colon, value = raw.partition("#")[0].partition(":")
        key, value = key.strip().lower(), value.strip()
        if not colon or not key:
            continue
        if key == "user-agent":
            agent = value.lower().partition("/")[0].strip()  # a product token, without version
            group = [] if group is None or group else group
            named = by_agent.setdefault(agent, [])
            if not named or named[-1] is not group:
                named.append(group)
        elif key in ("sitemap", "license") or group is None:
            general.append(Line(key, value, raw.strip()))
        else:
            group.append(Line(key, value, raw.strip()))
    return RobotsFile(by_agent, general)


def rules_for(text: str, agent: str) -> str:
    """The part of a robots file that ``agent`` has to obey, under a single name.

    A parser that gives each robot a copy of its group's rules takes gigabytes for a file of ten
    thousand robots and as many rules.
    """
    found = read_groups(text)
    lines = [*found.general, Line("", "", "User-agent: *"), *found.lines_of(agent)]
    return "\n".join(line.raw for line in lines)


def path_of(url: str) -> str:
    """Path and query of a URL, which patterns are held against."""
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern with ``*`` and a closing ``$`` matches (RFC 9309, section 2.2.3).

    In time linear in the path: between two stars, the first fit is as good as any.
    """
    if not pattern.isascii():  # paths are percent-encoded
        pattern = quote(pattern, safe="/%:@!$&'()*+,;=~-._?")
    if "%" in pattern or "%" in path:
        pattern, path = _spelled(pattern), _spelled(path)
    anchored = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    if not rest:
        return len(path) == len(first) or not anchored
    at = len(first)
    for part in rest[:-1]:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    if anchored:
        return path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at
    return path.find(rest[-1], at) >= 0


def _spelled(path: str) -> str:
    """Without percent-encoding where none is needed, and in capitals (RFC 9309, section 2.2.2)."""
    return _ENCODED.sub(_decoded, path)


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    is_plain = character.isascii() and (character.isalnum() or character in "-._~")
    return character if is_plain else match[0].upper()


def ruling(lines: Iterable[Line], path: str) -> Line | None:
    """The allow or disallow line that decides on ``path``: the longest, of equals an allow."""
    fitting = [
        line
        for line in lines
        if line.key in ("allow", "disallow") and line.value and matches(line.value, path)
    ]
    return max(fitting, key=lambda line: (len(line.value), line.key == "allow"), default=None)
