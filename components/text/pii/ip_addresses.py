"""Detection of IP addresses in text, told apart from section numbers, versions and object ids.

Four numbers with dots between them are an address only where the text says so (a word, a port, a
prefix length) or where two of them are larger than parts of versions and sections are.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from itertools import pairwise

from components.text.pii.pii_tables import PUBLIC_SERVICES
from components.text.spans import Span, make_span

_IPV4 = re.compile(r"(?<![\w./-])(?<!\d:)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\w)")
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
_OCTETS_IN_HEXADECIMAL = re.compile(r"[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){7}")
"""EUI-64 of a network card, the head of a fingerprint."""

_NUMBERED = re.compile(
    r"(?:\b(?:versions?|version[eé]n?|versión|versão|release|rel\.|ver\.?|revision|build|rfc|oids?|"
    r"object identifiers?|sections?|sect?\.|sección|seção|sezione|abschnitte?s?|§+|chapters?|"
    r"chap\.|chapitre|kapitel|capítulo|capitolo|appendix|clauses?|paragraphs?|figures?|fig\.|"
    r"tables?|part|item|rule|article|annex)[ \u00a0\"'(:=]{0,3}|\bv|[=><~^]=?|-)\s*\Z",
    re.IGNORECASE,
)
"""Words before the number of a section, a version or an object."""
_NUMBERED_LIST = re.compile(
    r"\d\.\d+\.\d+(?:\.\d+)*\.?\)?(?:,? ?(?:and|or|to|und|bis|et|y|e)|,) \Z"
)
"""The second number of ``sections 3.1.2.9 and 3.1.2.10``."""
_ASSIGNED = re.compile(r"(?:ip|addr|address|host|server|from|client)\w{0,4} ?= ?\Z", re.IGNORECASE)
_ADDRESS_WORD = re.compile(
    r"\b(?:ips?|ipv4|ip[ _-]?addr\w*|addr|addresse?s?|adresses?|dirección|indirizzo|hosts?|gateway|"
    r"dns|name-?servers?|netmask|subnet|ping|traceroute|inet|bind|listen\w*|peer|router|route|"
    r"network|proxy|login|logged in|localhost|whois|telnet)\b[^\n]{0,24}\Z",
    re.IGNORECASE,
)
_ADDRESS_AFTER = re.compile(
    r":\d{2,5}\b(?![.:])|/(?:[89]|[12]\d|3[0-2])\b|[ \t]+(?:netmask|mask)\b"
)
_LARGE_OCTET = 32
"""Versions and sections count from 1, so that two of their four parts are hardly ever this large
(three where the first has one digit, as in 2.39.90.1); of addresses drawn at random 98 % are."""
_EXAMPLE_WORDS = re.compile(
    r"(?:\be\.g\.|\b(?:for|par|por|zum) (?:example|instance|exemple|ejemplo|exemplo|beispiel)\b|"
    r"\bz\. ?B\.|\bsuch as\b)[^.]{0,40}\Z",
    re.IGNORECASE,
)
_EXAMPLE_HOST = re.compile(r"\bexample\.(?:com|org|net|edu)\b|\w\.example\b", re.IGNORECASE)
_NEIGHBOURHOOD = 90
"""Characters on both sides, about a line of a listing, in which a host of RFC 2606 may stand."""
_SENTENCE_END = re.compile(r"[.!?]\s")
_PREFIX_LENGTH = re.compile(r"/(\d{1,3})\b")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_RETIRED = (ipaddress.ip_network("3ffe::/16"),)
"""RFC 3701: the test network 6bone."""


def find_ip_addresses(text: str) -> Iterator[Span]:
    """Find IP addresses: spans of kind ``ip``.

    Those of no single host on the public net are examples: private, reserved, multicast and
    documentation ranges, networks, well-known services, and numbers chosen to be looked at.
    """
    if _IPV4_HINT.search(text):
        for match in (*_IPV4.finditer(text), *_IPV4_URL.finditer(text)):
            yield from _find_ipv4(text, match)
    if _IPV6_HINT.search(text):
        for match in _IPV6.finditer(text):
            yield from _find_ipv6(text, match)


def _find_ipv4(text: str, match: re.Match[str]) -> Iterator[Span]:
    try:
        address = ipaddress.IPv4Address(match[0])
    except ValueError:
        return
    if not _is_written_as_address(text, match, address):
        return
    octets = tuple(address.packed)
    example = (
        not address.is_global
        or address.is_multicast
        or address.is_reserved
        or match[0] in PUBLIC_SERVICES
        or octets[2:] == (0, 0)
        or _is_network(text, match, address)
        or _is_made_up(octets)
        or _stands_in_example(text, match)
    )
    yield make_span(match.span(), "ip", example)


def _find_ipv6(text: str, match: re.Match[str]) -> Iterator[Span]:
    try:
        address = ipaddress.IPv6Address(match[0])
    except ValueError:
        return
    if match[0].count(":") in (2, 3) and not _SHORT_IPV6.match(match[0]):
        return
    if _OCTETS_IN_HEXADECIMAL.fullmatch(match[0]) or _is_service_with_port(address, match[0]):
        return
    example = (
        not address.is_global
        or address not in _GLOBAL_UNICAST
        or any(address in network for network in _RETIRED)
        or (address.sixtofour is not None and not address.sixtofour.is_global)
        or _is_network(text, match, address)
        or address.compressed in PUBLIC_SERVICES
        or _stands_in_example(text, match)
    )
    yield make_span(match.span(), "ip", example)


def _is_written_as_address(text: str, match: re.Match[str], address: ipaddress.IPv4Address) -> bool:
    """Tell an address from a section number, a version, an object id by what stands around it."""
    before = text[max(0, match.start() - 48) : match.start()]
    if _ASSIGNED.search(before):
        return True
    if _NUMBERED.search(before):
        return False
    wanted = 2 if address.packed[0] >= 10 else 3
    if sum(octet >= _LARGE_OCTET for octet in address.packed) >= wanted:
        return not _NUMBERED_LIST.search(before)
    if before.endswith("//") or _ADDRESS_AFTER.match(text, match.end()):
        return True
    if address.is_private and not _NUMBERED_LIST.search(before):
        return True  # 10.0.0.1, 127.0.0.1: never redacted
    return bool(_ADDRESS_WORD.search(before))


def _is_network(
    text: str, match: re.Match[str], address: ipaddress.IPv4Address | ipaddress.IPv6Address
) -> bool:
    """True for a network's number, with a prefix length behind it and no host in it."""
    length = _PREFIX_LENGTH.match(text, match.end())
    if length is None or not 1 <= int(length[1]) < address.max_prefixlen:
        return False
    return int(address) % (1 << (address.max_prefixlen - int(length[1]))) == 0


def _is_service_with_port(address: ipaddress.IPv6Address, number: str) -> bool:
    """True for ``2606:4700:4700::1111:443``: a port without the brackets of RFC 3986."""
    return (
        address.compressed not in PUBLIC_SERVICES and number.rpartition(":")[0] in PUBLIC_SERVICES
    )


def _is_made_up(octets: tuple[int, ...]) -> bool:
    """True for equal steps (1.2.3.4, 12.34.56.78, 4.4.4.4), single digits, zeros inside, 1 to 9."""
    if "".join(map(str, octets)) in "1234567890123456789":
        return True
    steps = {right - left for left, right in pairwise(octets)}
    return len(steps) == 1 or max(octets) < 10 or octets[1:3] == (0, 0)


def _stands_in_example(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - _NEIGHBOURHOOD) : match.start()]
    after = text[match.end() : match.end() + _NEIGHBOURHOOD]
    sentence = f"{_SENTENCE_END.split(before)[-1]} {_SENTENCE_END.split(after)[0]}"
    return bool(_EXAMPLE_WORDS.search(before) or _EXAMPLE_HOST.search(sentence))
