"""Crawl traps: sites that never end, such as calendars and addresses with a session in them.

A session in an address is taken out before the address counts. For the rest, addresses of one shape
(the same path and parameters, numbers aside) are judged by what they bring: a page with the very
words of another page of the host is *barren*, and a shape that is nearly always barren is closed.
A calendar's months turn barren after a year; a shop's products never do. What a page is judged by
depends on the order of the crawl alone, so the same site ends the same way every time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

MAX_SEGMENTS = 30
MAX_REPEATS = 3
"""How often one name may stand in a path: relative links that go wrong repeat it for ever."""
_SESSIONS = (
    "cfid cftoken jsessionid osc_sid oscsid phpsessid sessid session session_id sessionid sid zenid"
)
_TRACKING = "_ga dclid fbclid gclid igshid mc_cid mc_eid msclkid yclid"
_SESSION_NAMES, _TRACKING_NAMES = frozenset(_SESSIONS.split()), frozenset(_TRACKING.split())
_SESSION_VALUE = re.compile(r"[0-9A-Za-z_,.~-]{12,}")
_IN_PATH = re.compile(r";jsessionid=[^/;?]*|/\([A-Z]\([0-9a-zA-Z]{20,}\)\)", re.IGNORECASE)
_NUMBERED = re.compile(r"[^/]*\d[^/]*")
_BARREN_SHARE = 0.9
_FIRST_YEAR = 12
"""Pages that do not speak for their shape: the months of a calendar's first year are all new."""


def without_session(url: str) -> str:
    """``url`` without a session's or a campaign's mark, which name no page."""
    if "?" not in url and ";" not in url and "/(" not in url:
        return url
    parts = urlsplit(url)
    kept = [pair for pair in parts.query.split("&") if not _is_mark(pair)]
    path = _IN_PATH.sub("", parts.path) or "/"
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join(kept), ""))


def _is_mark(pair: str) -> bool:
    name, _, value = pair.partition("=")
    name = name.lower()
    if name in _SESSION_NAMES or name.startswith("aspsessionid"):
        return bool(_SESSION_VALUE.fullmatch(value))
    return name in _TRACKING_NAMES or name.startswith("utm_")


def goes_in_circles(url: str) -> bool:
    """Whether a path is so long or so repetitive that no one wrote it."""
    names = [name for name in urlsplit(url).path.split("/") if name]
    return len(names) > MAX_SEGMENTS or any(
        names.count(name) > MAX_REPEATS for name in set(names) if len(names) > MAX_REPEATS
    )


def shape_of(url: str) -> str:
    """The address with everything that holds a number masked, and parameters without values."""
    parts = urlsplit(url)
    keys = sorted({pair.partition("=")[0] for pair in parts.query.split("&") if pair})
    return f"{parts.netloc}{_NUMBERED.sub('0', parts.path)}?{'&'.join(keys)}"


@dataclass
class _Shape:
    pages: int = 0
    barren: int = 0


@dataclass
class Traps:
    """What the pages of a crawl brought so far, by the shape of their addresses."""

    max_barren: int
    """Barren pages of a shape before it is closed."""
    _shapes: dict[str, _Shape] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def learn(self, url: str, fingerprint: str) -> None:
        """Take in a page that came; ``fingerprint`` stands for its words, empty for none."""
        shape = self._shapes.setdefault(shape_of(url), _Shape())
        mark = (urlsplit(url).netloc, fingerprint)
        shape.pages += 1
        shape.barren += mark in self._seen
        self._seen.add(mark)

    def closed(self, url: str) -> bool:
        """Whether pages like this one bring nothing new."""
        shape = self._shapes.get(shape_of(url))
        return (
            shape is not None
            and shape.barren >= self.max_barren
            and shape.barren > _BARREN_SHARE * (shape.pages - min(_FIRST_YEAR, shape.pages))
        )
