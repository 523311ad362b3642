"""Opt-out signals of a page, from its headers and its head.

``X-Robots-Tag`` and meta robots with ``noai`` or ``noimageai``, or with ``noindex`` for a robot
that collects for training; ``tdm-reservation`` as a header and as a meta element; ``Content-Usage``
and ``Content-Signal`` headers; licences.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from components.collect.extraction.tree.html_tree import Element
from components.collect.optouts.ai_preferences import PREFERENCE_KEYS, parse_preferences, split_path
from components.collect.optouts.optout_policy import OptoutConfig, OptoutSignal, tdmrep_signal
from components.collect.web.page_licences import read_licence_signals, start_tag
from components.collect.web.robots_directives import directives_for

_TDM_HEADERS = ("tdm-reservation", "tdm-policy")
_CLOSING_DIRECTIVES = frozenset({"noindex", "none", "noai"})


def parse_page_signals(
    root: Element | None, headers: Mapping[str, str], url: str, config: OptoutConfig
) -> list[OptoutSignal]:
    """Parse the opt-out signals of a page, from far to near.

    Args:
        root: The page's tree, None where it is no HTML.
        headers: HTTP headers, names in lower case.
        url: The page's URL.
        config: The opt-out policy, with the robots that directives may address.
    """
    robots = {robot.lower(): robot for robot in config.agents}
    metas = _named_metas(root) if root is not None else []
    tag = headers.get("x-robots-tag", "")
    signals = list(_robots_signals(tag, f"X-Robots-Tag: {tag}", f"{url} (header)", robots))
    for name, content, evidence in metas:
        if name == "robots":
            signals += _robots_signals(content, evidence, f"{url} (meta)", robots)
        elif name in robots and _CLOSING_DIRECTIVES & directives_for(content, ()):
            signals.append(
                OptoutSignal("robots-agent", robots[name], "denied", evidence, f"{url} (meta)")
            )
    signals += _tdmrep_signals(headers, metas, url)
    for key in PREFERENCE_KEYS:
        header = headers.get(key, "")
        value = split_path(header)[1]
        signals += parse_preferences(key, value, f"{key}: {header}", f"{url} (header)")
    signals += read_licence_signals(root, headers.get("link", ""), url, config.refused_licences)
    return signals


def _named_metas(root: Element) -> list[tuple[str, str, str]]:
    """(name in lower case, content, start tag) of all meta elements with a name."""
    return [
        (name, (meta.get("content") or "").strip(), start_tag(meta))
        for meta in root.iter("meta")
        if (name := (meta.get("name") or "").strip().lower())
    ]


def _robots_signals(
    value: str, evidence: str, source: str, robots: Mapping[str, str]
) -> Iterator[OptoutSignal]:
    general = directives_for(value, ())
    if "noai" in general:
        yield OptoutSignal("noai", "noai", "denied", evidence, source)
    if "noimageai" in general:  # only noted, since images are never collected
        yield OptoutSignal("noimageai", "noimageai", "noted", evidence, source)
    for lowered, robot in robots.items():
        if lowered in value.lower() and _CLOSING_DIRECTIVES & (
            directives_for(value, {lowered}) - general
        ):
            yield OptoutSignal("robots-agent", robot, "denied", evidence, source)


def _tdmrep_signals(
    headers: Mapping[str, str], metas: Collection[tuple[str, str, str]], url: str
) -> Iterator[OptoutSignal]:
    """TDMRep signals of headers and meta elements, with the policy's address as evidence."""
    value = headers.get("tdm-reservation", "").strip()
    if value in ("0", "1"):
        lines = [f"{name}: {headers[name]}" for name in _TDM_HEADERS if name in headers]
        yield tdmrep_signal(value == "1", "\n".join(lines), f"{url} (header)")
    policy = [evidence for name, _, evidence in metas if name == "tdm-policy"][:1]
    for name, content, evidence in metas:
        if name == "tdm-reservation" and content in ("0", "1"):
            yield tdmrep_signal(content == "1", "\n".join([evidence, *policy]), f"{url} (meta)")
