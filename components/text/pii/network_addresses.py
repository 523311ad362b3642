"""Detection of e-mail and IP addresses in text."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from components.text.pii.pii_tables import (
    EXAMPLE_ADDRESSES,
    EXAMPLE_DOMAINS,
    EXAMPLE_NAMES,
    GENERIC_TLDS,
)
from components.text.spans import Span, make_span

_AT = re.compile(r"@")
_MASKED_AT = re.compile(r" ?[\[({<] ?(?:at|AT|@) ?[\])}>] ?")
_DOT = re.compile(r" ?[\[({<] ?(?:dot|DOT|\.) ?[\])}>] ?")
_LOCAL = re.compile(r"[^\W_](?:[\w.%+'!#$&*/=?^`{|}~-]{0,62}[\w%+-])?$")
_DOMAIN = re.compile(r"((?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8})([^\W\d_]{2,24})(?![\w-])")
_MASKED_DOMAIN = re.compile(
    r"[^\W_][\w-]{0,61}(?:(?:\.| ?[\[({<] ?(?:dot|DOT|\.) ?[\])}>] ?)[^\W_][\w-]{1,61}){1,4}"
    r"(?![\w-])"
)
_IPV4 = re.compile(r"(?<![\w./-])(?<!\d:)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV4_HINT = re.compile(r"\d\.\d{1,3}\.\d")
_IPV4_URL = re.compile(r"(?<=//)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?:(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}(?:::)?|:(?::[0-9A-Fa-f]{1,4}){1,2}"
    r"|(?::[0-9A-Fa-f]{1,4}){1,2}::(?:[0-9A-Fa-f]{1,4})?(?::[0-9A-Fa-f]{1,4})?)(?![\w:])"
)
_IPV6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:")
_SHORT_IPV6 = re.compile(
    r"(?:[23]\d[0-9A-Fa-f]{2}|f[cdef]\d[0-9A-Fa-f]|f[cdef][0-9A-Fa-f]\d):", re.I
)
"""Global, local and multicast blocks: ``a::b`` and ``1::2`` are slices and C++."""
_NUMBERED = re.compile(
    r"(?:versions?|release|\bv|section|chapter|\brfc|§|[=><~]=?|-)\s*$", re.IGNORECASE
)
_ASSIGNED = re.compile(r"(?:ip|addr|address|host|server|from|client)\w{0,4} ?= ?$", re.IGNORECASE)
_LOOKS_NUMBERED = re.compile(r"\d\.\d\.\d\.\d|[fF:0]+")


def find_emails(text: str) -> Iterator[Span]:
    """Find e-mail addresses: spans of kind ``email``; also ``ada [at] analytical [dot] org``."""
    for at in (*_AT.finditer(text), *_MASKED_AT.finditer(text)):
        plain = at[0] == "@"
        local = _LOCAL.search(text[max(0, at.start() - 64) : at.start()])
        domain = (_DOMAIN if plain else _MASKED_DOMAIN).match(text, at.end())
        if local is None or domain is None or ".." in local[0]:
            continue
        host = _DOT.sub(".", domain[0]).lower()
        suffix = host.rpartition(".")[2]
        if (len(suffix) != 2 or not suffix.isalpha()) and suffix not in GENERIC_TLDS:
            continue
        example = (
            suffix in {"example", "test", "invalid", "localhost"}
            or any(host == name or host.endswith("." + name) for name in EXAMPLE_DOMAINS)
            or local[0].lower() in EXAMPLE_NAMES
        )
        yield make_span((at.start() - len(local[0]), domain.end()), "email", example)


def find_ip_addresses(text: str) -> Iterator[Span]:
    """Find IP addresses: spans of kind ``ip``; private and documentation ones are examples."""
    matches: list[re.Match[str]] = []
    if _IPV4_HINT.search(text):
        matches.extend((*_IPV4.finditer(text), *_IPV4_URL.finditer(text)))
    if _IPV6_HINT.search(text):
        matches.extend(_IPV6.finditer(text))
    for match in matches:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        before = text[max(0, match.start() - 12) : match.start()]
        if address.version == 4 and _NUMBERED.search(before) and not _ASSIGNED.search(before):
            continue
        if match[0].count(":") in (2, 3) and not _SHORT_IPV6.match(match[0]):
            continue
        is_example = not address.is_global or match[0] in EXAMPLE_ADDRESSES
        looks_numbered = _LOOKS_NUMBERED.fullmatch(match[0]) is not None
        yield make_span(match.span(), "ip", is_example or looks_numbered)
