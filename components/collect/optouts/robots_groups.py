"""Parser of robots files by group, and matcher of their path patterns.

A robots.txt (RFC 9309) is a list of groups: one or more ``User-agent`` lines, then rules. Protego
answers whether a robot may fetch a page; here the groups are kept as they were written, since an
opt-out is recorded with its own words, and since preferences stand in lines Protego does not know.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from urllib.parse import quote, urlsplit

from w3lib.encoding import read_bom

from components.collect.web.charset import decode_page, find_wide_codec

MAX_LINES = 20_000
"""Lines read of one file, comments aside: bounds the time that a hostile one takes."""
_KEY_SPELLINGS = {
    **dict.fromkeys(("useragent", "user agent"), "user-agent"),
    **dict.fromkeys(("dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow"),
    **dict.fromkeys(("sitemaps", "site-map"), "sitemap"),
}
"""Misspelt keys that Google's parser and Protego understand."""
_KEYS_WITHOUT_COLON = re.compile(
    r"(user[- ]?agent|allow|diss?all?[oa]w|diasllow|site-?maps?)\s+(\S.*)", re.IGNORECASE
)
_AFTER_TOKEN = re.compile(r"[/\s]")
"""End of a robot's name: its version or a remark follows."""
_IS_PLAIN = re.compile(r"[A-Za-z0-9/:@!$&'()*+,;=~._?-]*").fullmatch
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


def decode_site_file(body: bytes) -> str:
    """Decode a file of rules: UTF-8, where a byte order mark or zero bytes do not say UTF-16.

    Other bytes stand percent-encoded, so that a rule in another charset matches the addresses that
    its server writes in it.
    """
    if read_bom(body)[0] is not None or find_wide_codec(body) is not None:
        return decode_page(body, "text/plain")
    return body.decode("utf-8", "percent_bytes")


def parse_robots_groups(text: str) -> RobotsFile:
    """Parse a robots file; malformed lines are skipped."""
    by_agent: dict[str, list[list[RobotsLine]]] = {}
    general: list[RobotsLine] = []
    group: list[RobotsLine] | None = None  # the open one, which more robots join while it is empty
    for key, value, raw in islice(_directives(text), MAX_LINES):
        if key == "user-agent":
            agent = _AFTER_TOKEN.split(value.lower(), maxsplit=1)[0]
            group = [] if group is None or group else group
            agent_groups = by_agent.setdefault(agent, [])
            if not agent_groups or agent_groups[-1] is not group:
                agent_groups.append(group)
        elif key in ("sitemap", "license") or group is None:
            general.append(RobotsLine(key, value, raw))
        else:
            group.append(RobotsLine(key, value, raw))
    return RobotsFile(by_agent, general)


def _directives(text: str) -> Iterator[tuple[str, str, str]]:
    """(key in its right spelling, value, line) of all lines that have a key."""
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        without_colon = _KEYS_WITHOUT_COLON.fullmatch(line) if line else None
        if without_colon is not None:
            key, value = without_colon[1].lower(), without_colon[2].removeprefix(":").strip()
        else:
            key, colon, value = line.partition(":")
            key, value = key.strip().lower(), value.strip()
            if not colon or not key:
                continue
        yield _KEY_SPELLINGS.get(key, key), value, raw.strip()


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


@lru_cache(maxsize=1 << 14)
def _normalise_escapes(path: str) -> str:
    """Path with percent-encoding only where needed, in capitals (RFC 9309, section 2.2.2)."""
    if _IS_PLAIN(path):
        return path
    return _ENCODED.sub(_normalise_escape, quote(path, safe="/%:@!$&'()*+,;=~-._?"))


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


def _escape_bytes(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return quote(error.object[error.start : error.end]), error.end


codecs.register_error("percent_bytes", _escape_bytes)
