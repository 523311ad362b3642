"""Crawl trap detection: endless sites such as calendars, and session identifiers in URLs.

Session and campaign parameters are removed from a URL before it counts. For the rest, URLs are
grouped by *shape* (the same path and parameters, numbers masked). A page with the very words of
another page of its host is *barren*; a shape whose pages are nearly all barren is a trap and is
crawled no further. A calendar's months turn barren after a year, a shop's products never do. The
counts depend on the order of the crawl alone, so the same site ends the same way every time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

MAX_SEGMENTS = 30
"""Segments of a path, at most; paths that people write are far shorter."""
MAX_REPEATS = 3
"""Occurrences of one name in a path, at most: broken relative links repeat it for ever."""
_SESSIONS = (
    "cfid cftoken jsessionid osc_sid oscsid phpsessid sessid session session_id sessionid sid zenid"
)
_TRACKING = "_ga dclid fbclid gclid igshid mc_cid mc_eid msclkid yclid"
_SESSION_NAMES, _TRACKING_NAMES = frozenset(_SESSIONS.split()), frozenset(_TRACKING.split())
_SESSION_VALUE = re.compile(r"[0-9A-Za-z_,.~-]{12,}")
_IN_PATH = re.compile(r";jsessionid=[^/;?]*|/\([A-Z]\([0-9a-zA-Z]{20,}\)\)", re.IGNORECASE)
_NUMBERED = re.compile(r"[^/]*\d[^/]*")
_BARREN_SHARE = 0.9
"""Share of barren pages above which a shape is a trap: one new page in ten keeps it open."""
_UNCOUNTED_PAGES = 12
"""First pages of a shape that are not counted: a calendar's first twelve months are all new."""


def without_session(url: str) -> str:
    """``url`` without session and campaign parameters, which identify no page."""
    if "?" not in url and ";" not in url and "/(" not in url:
        return url
    parts = urlsplit(url)
    parameters = [pair for pair in parts.query.split("&") if not _is_session_parameter(pair)]
    path = _IN_PATH.sub("", parts.path) or "/"
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join(parameters), ""))


def _is_session_parameter(pair: str) -> bool:
    name, _, value = pair.partition("=")
    name = name.lower()
    if name in _SESSION_NAMES or name.startswith("aspsessionid"):
        return bool(_SESSION_VALUE.fullmatch(value))
    return name in _TRACKING_NAMES or name.startswith("utm_")


def goes_in_circles(url: str) -> bool:
    """True for a path so long or so repetitive that broken relative links must have made it."""
    names = [name for name in urlsplit(url).path.split("/") if name]
    return len(names) > MAX_SEGMENTS or any(
        names.count(name) > MAX_REPEATS for name in set(names) if len(names) > MAX_REPEATS
    )


def shape_of(url: str) -> str:
    """Shape of a URL: numbered path segments masked, parameter names without their values."""
    parts = urlsplit(url)
    keys = sorted({pair.partition("=")[0] for pair in parts.query.split("&") if pair})
    return f"{parts.netloc}{_NUMBERED.sub('0', parts.path)}?{'&'.join(keys)}"


@dataclass
class _ShapeCounts:
    pages: int = 0
    barren: int = 0


@dataclass
class TrapDetector:
    """Counts of pages and barren pages by URL shape, over one crawl."""

    max_barren: int
    """Barren pages of a shape before it can count as a trap."""
    _shapes: dict[str, _ShapeCounts] = field(default_factory=dict)
    _seen: set[tuple[str, str]] = field(default_factory=set)

    def observe_page(self, url: str, fingerprint: str) -> None:
        """Count a fetched page; ``fingerprint`` identifies its set of words, empty for none."""
        shape = self._shapes.setdefault(shape_of(url), _ShapeCounts())
        mark = (urlsplit(url).netloc, fingerprint)
        shape.pages += 1
        shape.barren += mark in self._seen
        self._seen.add(mark)

    def is_trap(self, url: str) -> bool:
        """True where pages of this URL's shape bring nothing new."""
        shape = self._shapes.get(shape_of(url))
        return (
            shape is not None
            and shape.barren >= self.max_barren
            and shape.barren > _BARREN_SHARE * (shape.pages - min(_UNCOUNTED_PAGES, shape.pages))
        )
