"""Robots directives of an ``X-Robots-Tag`` header or a robots meta element, by addressed agent.

``X-Robots-Tag: noindex, otherbot: nofollow`` addresses everyone with the first directive and one
robot with the second: a name with a colon governs all that follows it, up to the next name.
Directives are separated by commas; by blanks and semicolons too where an owner wrote so, since
``noindex nofollow`` is a plain no.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives that contain a colon themselves."""
_LIMIT = re.compile(r"\b(max-(?:snippet|image-preview|video-preview))\s*[:=]\s*([^\s,;]+)")
"""A directive with a value of one word, which is none itself: ``max-image-preview: none``."""
_END_OF_PART = re.compile(r"[,;]")
_QUOTES = "\"'\u2018\u2019\u201c\u201d"


def join_robots_headers(lines: Iterable[str]) -> str:
    """Join several header lines, without letting an agent's name govern the next line."""
    joined = ""
    for line in lines:
        if not joined:
            joined = line
        else:
            joined += f", {line}" if _split_agent(line.partition(",")[0])[0] else f", *: {line}"
    return joined


def directives_for(value: str, agents: Collection[str]) -> frozenset[str]:
    """Directives in lower case that address everyone or one of ``agents`` (lower case)."""
    directives: set[str] = set()
    addressed = "*"
    for part in _END_OF_PART.split(_LIMIT.sub(r"\1:\2", value.lower())):
        name, text = _split_agent(part.strip().strip(_QUOTES))
        addressed = name or addressed
        if addressed == "*" or addressed in agents:
            is_date = text.startswith("unavailable_after")
            words = [text] if is_date else text.split()
            directives.update(filter(None, (word.strip(_QUOTES) for word in words)))
    return frozenset(directives)


def _split_agent(part: str) -> tuple[str, str]:
    """Split off the agent that is addressed from here on: (agent or empty, directive)."""
    before, colon, after = part.partition(":")
    name = before.strip().lower()
    if not colon or name in _VALUED or not name or " " in name:
        return "", part.strip()
    return name, after.strip()


def forbids_indexing(directives: Collection[str]) -> bool:
    """True for ``noindex`` or ``none``."""
    return "noindex" in directives or "none" in directives


def forbids_following(directives: Collection[str]) -> bool:
    """True for ``nofollow`` or ``none``."""
    return "nofollow" in directives or "none" in directives
