"""Licences that a page names: Creative Commons links, ``rel=license``, schema.org, Dublin Core.

A licence is no opt-out by itself. It is noted, and counts as a no where the configuration refuses
licences of its kind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from components.collect.extraction.tree.html_tree import Element
from components.collect.optouts.optout_policy import MAX_EVIDENCE, Signal, Verdict

MAX_LICENCES = 20
"""Of one page: one that lists works of others may name hundreds."""
_CREATIVE = re.compile(
    r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]{1,20})(?:/(\d\.\d))?", re.IGNORECASE
)
_LINK = re.compile(r"<([^<>]{1,2000})>([^<]{0,2000})")
_METAS = frozenset({"dc.rights", "dcterms.license", "dcterms.rights", "license", "rights"})
_MAX_DEPTH = 20


class Stated(NamedTuple):
    """One licence as it is named."""

    value: str
    evidence: str
    is_declared: bool
    """By the page, as its own; a mere link may be about something on it."""


def read_licences(
    root: Element | None, link_header: str, source: str, refused: Sequence[str]
) -> list[Signal]:
    """Licences of one page, each once, in their order."""
    found: dict[str, Signal] = {}
    stated = [*_from_header(link_header), *(stated_in(root) if root is not None else ())]
    for value, evidence, _ in stated:
        name = licence_name(value)
        if name and len(found) < MAX_LICENCES:
            verdict = licence_verdict(name, refused)
            found.setdefault(name, Signal("licence", name, verdict, evidence, source))
    return list(found.values())


def licence_verdict(name: str, refused: Sequence[str]) -> Verdict:
    """``denied`` for a licence of a kind that the configuration refuses."""
    return "denied" if any(fnmatchcase(name, p.lower()) for p in refused) else "noted"


def licence_name(value: str) -> str:
    """``cc-by-nc-4.0`` for a Creative Commons address, else the text in lower case, shortened."""
    match = _CREATIVE.search(value)
    if match is None:
        return " ".join(value.split())[:200].lower()
    kind, licence, version = match[1].lower(), match[2].lower(), match[3] or ""
    known = {"zero": "cc0", "mark": "public-domain"} if kind == "publicdomain" else {}
    return "-".join(part for part in (known.get(licence, f"cc-{licence}"), version) if part)


def _from_header(value: str) -> Iterator[Stated]:
    """``Link: <address>; rel=license`` (RFC 8288)."""
    for target, parameters in _LINK.findall(value):
        if re.search(r"\brel\s*=\s*\"?[^\";]*\blicense\b", parameters, re.IGNORECASE):
            yield Stated(target, f"Link: <{target}>{parameters.rstrip(', ')}", True)


def stated_in(
    root: Element, tags: Sequence[str] = ("a", "link", "meta", "script")
) -> Iterator[Stated]:
    """What elements with these tags say."""
    for element in root.iter(*tags):
        if element.tag == "script":
            if (element.get("type") or "").strip().lower() == "application/ld+json":
                for value in _in_json(element.text or ""):
                    yield Stated(value, json_evidence(value), True)
        elif element.tag == "meta":
            name = (element.get("name") or element.get("itemprop") or "").strip().lower()
            if name in _METAS:
                content = element.get("content") or ""
                yield Stated(content, written(element), "://" in content)
        else:
            kinds = f"{element.get('rel') or ''} {element.get('itemprop') or ''}".lower().split()
            address = element.get("href") or ""
            if "license" in kinds or is_deed(address):
                yield Stated(address, written(element), "license" in kinds)


def is_deed(address: str) -> bool:
    """Whether it is that of a licence of Creative Commons."""
    return _CREATIVE.search(address) is not None


def _in_json(text: str) -> Iterator[str]:
    """Values of every ``license`` in schema.org's JSON-LD."""
    try:
        yield from _licences_in(json.loads(text), 0)
    except (ValueError, RecursionError):
        return


def _licences_in(value: Any, depth: int) -> Iterator[str]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, list):
        for item in value:
            yield from _licences_in(item, depth + 1)
    elif isinstance(value, dict):
        for name, item in value.items():
            if name == "license":
                yield from named_in(item)
            else:
                yield from _licences_in(item, depth + 1)


def named_in(value: Any) -> Iterator[str]:
    """Licences that a ``license`` of schema.org names: texts, addresses, or works with either."""
    for one in value if isinstance(value, list) else [value]:
        named = one.get("@id") or one.get("url") if isinstance(one, dict) else one
        if isinstance(named, str):
            yield named


def json_evidence(licence: str) -> str:
    """What JSON-LD says of a licence, without the rest of it."""
    return json.dumps({"license": licence}, ensure_ascii=False)[:MAX_EVIDENCE]


def written(element: Element) -> str:
    """An element's start tag, without what is in it, which may be the whole page."""
    given = "".join(f' {name}="{value}"' for name, value in element.attrib.items())
    return f"<{element.tag}{given}>"[:MAX_EVIDENCE]
