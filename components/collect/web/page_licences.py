"""Licences that a page states: Creative Commons links, ``rel=license``, schema.org, Dublin Core.

A licence is no opt-out by itself. It is recorded as a signal, and denies use where the config
refuses licences of its kind (``optouts.refused_licences``). Names such as ``cc-by-nc-4.0`` are the
ledger's and that field's; ``components.text.licence_signs`` gives documents SPDX identifiers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from components.collect.extraction.tree.html_tree import Element
from components.collect.optouts.optout_policy import MAX_EVIDENCE, OptoutSignal, OptoutVerdict

MAX_LICENCE_SIGNALS = 20
"""Signals of one page, at most: one that lists works of others may name hundreds."""
_CREATIVE = re.compile(
    r"creativecommons\.org/(licenses|publicdomain)/([a-z+-]{1,20})(?:/(\d\.\d))?", re.IGNORECASE
)
_LINK = re.compile(r"<([^<>]{1,2000})>([^<]{0,2000})")
_LICENCE_METAS = frozenset({"dc.rights", "dcterms.license", "dcterms.rights", "license", "rights"})
_MAX_DEPTH = 20


class StatedLicence(NamedTuple):
    """One licence statement of a page."""

    value: str
    evidence: str
    is_declared: bool
    """True where the page declares it as its own; a mere link may be that of a picture."""


def read_licence_signals(
    root: Element | None, link_header: str, source: str, refused: Sequence[str]
) -> list[OptoutSignal]:
    """Read the licences of one page as signals, each once, in their order.

    Args:
        root: The page's tree, None where it is no HTML.
        link_header: The ``Link`` header, empty for none.
        source: The page's URL.
        refused: Patterns of licences that deny use.
    """
    signals: dict[str, OptoutSignal] = {}
    statements = [
        *_header_licences(link_header),
        *(find_stated_licences(root) if root is not None else ()),
    ]
    for value, evidence, _ in statements:
        name = licence_name(value)
        if name and len(signals) < MAX_LICENCE_SIGNALS:
            verdict = licence_verdict(name, refused)
            signals.setdefault(name, OptoutSignal("licence", name, verdict, evidence, source))
    return list(signals.values())


def licence_verdict(name: str, refused: Sequence[str]) -> OptoutVerdict:
    """``denied`` for a licence that matches a refused pattern, else ``noted``."""
    return "denied" if any(fnmatchcase(name, p.lower()) for p in refused) else "noted"


def licence_name(value: str) -> str:
    """``cc-by-nc-4.0`` for a Creative Commons address, else the text in lower case, shortened."""
    match = _CREATIVE.search(value)
    if match is None:
        return " ".join(value.split())[:200].lower()
    kind, licence, version = match[1].lower(), match[2].lower(), match[3] or ""
    public_domain_names = {"zero": "cc0", "mark": "public-domain"} if kind == "publicdomain" else {}
    return "-".join(
        part for part in (public_domain_names.get(licence, f"cc-{licence}"), version) if part
    )


def _header_licences(value: str) -> Iterator[StatedLicence]:
    """``Link: <address>; rel=license`` (RFC 8288)."""
    for target, parameters in _LINK.findall(value):
        if re.search(r"\brel\s*=\s*\"?[^\";]*\blicense\b", parameters, re.IGNORECASE):
            yield StatedLicence(target, f"Link: <{target}>{parameters.rstrip(', ')}", True)


def find_stated_licences(
    root: Element, tags: Sequence[str] = ("a", "link", "meta", "script")
) -> Iterator[StatedLicence]:
    """Licence statements in a page's elements of these tags, in document order."""
    for element in root.iter(*tags):
        if element.tag == "script":
            if (element.get("type") or "").strip().lower() == "application/ld+json":
                for value in _json_licences(element.text or ""):
                    yield StatedLicence(value, json_evidence(value), True)
        elif element.tag == "meta":
            name = (element.get("name") or element.get("itemprop") or "").strip().lower()
            if name in _LICENCE_METAS:
                content = element.get("content") or ""
                yield StatedLicence(content, start_tag(element), "://" in content)
        else:
            kinds = f"{element.get('rel') or ''} {element.get('itemprop') or ''}".lower().split()
            address = element.get("href") or ""
            if "license" in kinds or is_creative_commons(address):
                yield StatedLicence(address, start_tag(element), "license" in kinds)


def is_creative_commons(address: str) -> bool:
    """True for the address of a Creative Commons licence."""
    return _CREATIVE.search(address) is not None


def _json_licences(text: str) -> Iterator[str]:
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
                yield from licence_values(item)
            else:
                yield from _licences_in(item, depth + 1)


def licence_values(value: Any) -> Iterator[str]:
    """Licences in a schema.org ``license`` value: texts, addresses, or objects with either."""
    for item in value if isinstance(value, list) else [value]:
        licence = item.get("@id") or item.get("url") if isinstance(item, dict) else item
        if isinstance(licence, str):
            yield licence


def json_evidence(licence: str) -> str:
    """Evidence of a JSON-LD licence: the property alone, as JSON."""
    return json.dumps({"license": licence}, ensure_ascii=False)[:MAX_EVIDENCE]


def start_tag(element: Element) -> str:
    """Start tag of an element as evidence, shortened to ``MAX_EVIDENCE``."""
    attributes = "".join(f' {name}="{value}"' for name, value in element.attrib.items())
    return f"<{element.tag}{attributes}>"[:MAX_EVIDENCE]
