"""Where a page's links lead, and what it asks of robots."""

from __future__ import annotations

from collections.abc import Mapping

from components.collect.dom import parse_html
from components.collect.robots import forbids_following
from components.collect.textbytes import decode
from components.collect.urls import link, normalise


def read_links(body: bytes, url: str, headers: Mapping[str, str]) -> tuple[list[str], str]:
    """(links in their order, each once; robots directives of header and meta elements)."""
    kind = headers.get("content-type", "")
    directives = [headers.get("x-robots-tag", "")]
    if kind.partition(";")[0].strip().lower() in ("text/plain", "text/markdown"):
        return [], directives[0]
    root = parse_html(decode(body, kind))
    if root is None:
        return [], directives[0]
    for meta in root.iter("meta"):
        if (meta.get("name") or "").strip().lower() == "robots":
            directives.append(meta.get("content") or "")
    asked = ",".join(part for part in directives if part)
    if forbids_following(asked):
        return [], asked
    first = next((element.get("href") for element in root.iter("base")), None)
    base = (normalise(first, url) if first else None) or url
    found: dict[str, None] = {}
    for anchor in root.iter("a"):
        href = anchor.get("href")
        if not href or "nofollow" in (anchor.get("rel") or "").lower():
            continue
        target = link(href, base)
        if target is not None:
            found.setdefault(target)
    return list(found), asked
