"""A page's opt-outs: its headers and its head.

``X-Robots-Tag`` and meta robots with ``noai`` or ``noimageai``, or with ``noindex`` for a robot
that collects for training; ``tdm-reservation`` as a header and as a meta element; ``Content-Usage``
and ``Content-Signal`` headers; licences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from components.collect.extraction.tree.html_tree import Element
from components.collect.optouts.ai_preferences import KEYS, read_preferences, split_path
from components.collect.optouts.optout_policy import OptoutConfig, Signal, reservation
from components.collect.web.page_licences import read_licences, written
from components.collect.web.robots_directives import directives_for

_TDM = ("tdm-reservation", "tdm-policy")
_CLOSED = frozenset({"noindex", "none", "noai"})


def read_signals(
    root: Element | None, headers: Mapping[str, str], url: str, config: OptoutConfig
) -> list[Signal]:
    """Statements of headers first, then the page's own; ``root`` is None where it is no HTML."""
    robots = {robot.lower(): robot for robot in config.agents}
    metas = _metas(root) if root is not None else []
    tag = headers.get("x-robots-tag", "")
    found = list(_robots(tag, f"X-Robots-Tag: {tag}", f"{url} (header)", robots))
    for name, content, evidence in metas:
        if name == "robots":
            found += _robots(content, evidence, f"{url} (meta)", robots)
        elif name in robots and _CLOSED & directives_for(content, ()):
            found.append(Signal("robots-agent", robots[name], "denied", evidence, f"{url} (meta)"))
    found += _tdmrep(headers, metas, url)
    for key in KEYS:
        given = headers.get(key, "")
        value = split_path(given)[1]
        found += read_preferences(key, value, f"{key}: {given}", f"{url} (header)")
    found += read_licences(root, headers.get("link", ""), url, config.refused_licences)
    return found


def _metas(root: Element) -> list[tuple[str, str, str]]:
    """(name in lower case, content, as it was written) of all meta elements with a name."""
    return [
        (name, (meta.get("content") or "").strip(), written(meta))
        for meta in root.iter("meta")
        if (name := (meta.get("name") or "").strip().lower())
    ]


def _robots(value: str, evidence: str, source: str, robots: Mapping[str, str]) -> Iterator[Signal]:
    general = directives_for(value, ())
    if "noai" in general:
        yield Signal("noai", "noai", "denied", evidence, source)
    if "noimageai" in general:  # text is what we take: images are left alone anyway
        yield Signal("noimageai", "noimageai", "noted", evidence, source)
    for low, robot in robots.items():
        if low in value.lower() and _CLOSED & (directives_for(value, {low}) - general):
            yield Signal("robots-agent", robot, "denied", evidence, source)


def _tdmrep(
    headers: Mapping[str, str], metas: Collection[tuple[str, str, str]], url: str
) -> Iterator[Signal]:
    """Each with the address of the owner's policy, where one is named."""
    said = headers.get("tdm-reservation", "").strip()
    if said in ("0", "1"):
        lines = [f"{name}: {headers[name]}" for name in _TDM if name in headers]
        yield reservation(said == "1", "\n".join(lines), f"{url} (header)")
    policy = [evidence for name, _, evidence in metas if name == "tdm-policy"][:1]
    for name, content, evidence in metas:
        if name == "tdm-reservation" and content in ("0", "1"):
            yield reservation(content == "1", "\n".join([evidence, *policy]), f"{url} (meta)")
