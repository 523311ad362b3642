"""Robots directives of a header or a meta element: who is addressed, and what is asked.

``X-Robots-Tag: noindex, otherbot: nofollow`` asks everyone for the first and one robot for the
second: a name with a colon addresses all that follows it, up to the next name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

_VALUED = frozenset({"unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"})
"""Directives that hold a colon themselves."""


def join_lines(lines: Iterable[str]) -> str:
    """Several header lines as one, without letting a name reach into the next line."""
    joined = ""
    for line in lines:
        if not joined:
            joined = line
        else:
            joined += f", {line}" if _names(line.partition(",")[0])[0] else f", *: {line}"
    return joined


def directives_for(value: str, agents: Collection[str]) -> frozenset[str]:
    """Directives in lower case that address everyone or one of ``agents`` (lower case)."""
    found: set[str] = set()
    addressed = "*"
    for part in value.lower().split(","):
        name, directive = _names(part)
        addressed = name or addressed
        if directive and (addressed == "*" or addressed in agents):
            found.add(directive)
    return frozenset(found)


def _names(part: str) -> tuple[str, str]:
    """(the robot that is addressed from here on, or nothing; the directive)."""
    before, colon, after = part.partition(":")
    name = before.strip().lower()
    if not colon or name in _VALUED or not name or " " in name:
        return "", part.strip()
    return name, after.strip()


def forbids_indexing(directives: Collection[str]) -> bool:
    """Whether they hold ``noindex`` or ``none``."""
    return "noindex" in directives or "none" in directives


def forbids_following(directives: Collection[str]) -> bool:
    """Whether they hold ``nofollow`` or ``none``."""
    return "nofollow" in directives or "none" in directives
