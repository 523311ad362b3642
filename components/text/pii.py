"""Finds personal data and secrets in text: spans of a kind.

Kinds are ``email``, ``phone``, ``ip``, ``card``, ``iban``, ``login`` (a user and password in an
address) and ``secret`` (keys, tokens, private keys). What documentation writes as an example
(``user@example.com``, 127.0.0.1, test cards) is found too, as ``email_example`` and so on, so that
whoever decides can tell them apart.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from components.text.pii_data import (
    CALLING_CODES,
    EXAMPLE_ADDRESSES,
    EXAMPLE_CARDS,
    EXAMPLE_DOMAINS,
    EXAMPLE_IBANS,
    EXAMPLE_NAMES,
    EXAMPLE_USERS,
    GENERIC_TLDS,
    IBAN_LENGTHS,
)

KINDS = ("secret", "login", "email", "iban", "card", "phone", "ip")
"""In the order in which they claim a stretch of text."""
EXAMPLE = "_example"
ALL_KINDS = tuple(kind + suffix for kind in KINDS for suffix in ("", EXAMPLE))


class Span(NamedTuple):
    """Characters ``start`` to ``end`` of a text."""

    start: int
    end: int
    kind: str


_AT = re.compile(r"@")
_LOCAL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._%+-]{0,62}[A-Za-z0-9_%+-])?$")
_DOMAIN = re.compile(
    r"((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8})([A-Za-z]{2,24})(?![\w-])"
)
_LOGIN = re.compile(r"(?<=://)([^\s/:@'\"<>]{1,64}):([^\s/@'\"<>]{1,64})(?=@[\w\[])")
_PHONE_PLUS = re.compile(
    r"(?<![\w.+=-])\+(\d{1,3}(?:[ .-]?\(\d{1,4}\))?(?:[ .-]?\d{1,5}){2,6})(?![\w+]|[.,]\d)"
)
_PHONE_US = re.compile(
    r"(?<![\w.+-])(?:\+?1[ .-])?(\([2-9]\d{2}\) ?|[2-9]\d{2}([ .-]))"
    r"([2-9]\d{2})[ .-](\d{4})(?![\w-]|\.\d)"
)
_PHONE_WORD = re.compile(r"(?:tel|phone|call|fax|mobile|hotline)[\w .:()-]{0,16}$", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.:/-])(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV4_URL = re.compile(r"(?<=//)(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)")
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{1,4}(?::{1,2}[0-9A-Fa-f]{1,4}){3,7}(?![\w:])")
_IPV6_HINT = re.compile(r":[0-9A-Fa-f]{0,4}:[0-9A-Fa-f]")
_NUMBERED = re.compile(
    r"(?:versions?|release|\bv|section|chapter|\brfc|§|[=><~]=?|-)\s*$", re.IGNORECASE
)
_LOOKS_NUMBERED = re.compile(r"\d\.\d\.\d\.\d|[fF:0]+")
_CARD = re.compile(
    r"(?<![\w.,+-])\d(?:\d{12,18}|\d{3}([ -])\d{4}\1\d{4}\1\d{4}|\d{3}([ -])\d{6}\2\d{5})"
    r"(?![\w-]|[.,]\d)"
)
_IBAN = re.compile(
    r"(?<![\w])[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}|(?: [A-Z0-9]{4}){2,7}(?: [A-Z0-9]{1,4})?)(?![\w])"
)
_SECRETS = (  # what a key of each kind begins with, and the key
    ("AKIA", re.compile(r"(?<![A-Z0-9])AKIA[A-Z0-9]{16}(?![A-Z0-9])")),  # AWS
    ("ASIA", re.compile(r"(?<![A-Z0-9])ASIA[A-Z0-9]{16}(?![A-Z0-9])")),
    ("gh", re.compile(r"(?<!\w)gh[pousr]_[A-Za-z0-9]{36,255}(?!\w)")),  # GitHub
    ("github_pat_", re.compile(r"(?<!\w)github_pat_[A-Za-z0-9_]{22,255}(?!\w)")),
    ("glpat-", re.compile(r"(?<!\w)glpat-[\w-]{20,}(?!\w)")),  # GitLab
    ("xox", re.compile(r"(?<!\w)xox[abeoprs]-[A-Za-z0-9-]{10,}(?!\w)")),  # Slack
    ("AIza", re.compile(r"(?<!\w)AIza[\w-]{35}(?![\w-])")),  # Google
    ("k_live_", re.compile(r"(?<!\w)[sr]k_live_[A-Za-z0-9]{16,}(?!\w)")),  # Stripe
    ("k_test_", re.compile(r"(?<!\w)[sr]k_test_[A-Za-z0-9]{16,}(?!\w)")),
    ("sk-", re.compile(r"(?<![\w-])sk-(?:proj-|ant-)?(?=[\w-]*\d)[\w-]{20,}(?![\w-])")),
    ("hf_", re.compile(r"(?<![\w-])hf_[A-Za-z0-9]{30,}(?!\w)")),
    ("eyJ", re.compile(r"(?<![\w.])eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}")),  # JSON web token
    (
        "PRIVATE KEY",
        re.compile(
            r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----[\s\S]{16,8000}?"
            r"-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"
        ),
    ),
)
_VALUE = re.compile(r"[:=]\s{0,4}[\"']([^\"'\s]{12,128})[\"']")
_ASSIGNED_TO = re.compile(
    r"(?:api[_-]?key|secret(?:[_-]?key)?|(?:access|auth)[_-]?token|passw(?:or)?d)[\"']?\s*$",
    re.IGNORECASE,
)
_PLACEHOLDER = re.compile(
    r"example|x{4,}|your|\.\.\.|<|\*{3}|0{6,}|1234567|secret|password|test", re.IGNORECASE
)
_MIN_ENTROPY = 3.2
"""Bits a character of an assigned value; words and phrases lie below, random keys above."""


def find_spans(text: str) -> list[Span]:
    """All spans, sorted, none overlapping another."""
    taken: list[Span] = []
    for find in _FINDERS:
        for span in find(text):
            if all(span.end <= other.start or span.start >= other.end for other in taken):
                taken.append(span)
    return sorted(taken)


def _secrets(text: str) -> Iterator[Span]:
    for prefix, pattern in _SECRETS:
        if prefix in text:
            for match in pattern.finditer(text):
                yield _span(match.span(), "secret", bool(_PLACEHOLDER.search(match[0])))
    for match in _VALUE.finditer(text):
        value = match[1]
        if (
            any(map(str.isdigit, value))
            and _ASSIGNED_TO.search(text[max(0, match.start() - 24) : match.start()])
            and _entropy(value) >= _MIN_ENTROPY
        ):
            yield _span(match.span(1), "secret", bool(_PLACEHOLDER.search(value)))


def _logins(text: str) -> Iterator[Span]:
    if "://" in text:
        for match in _LOGIN.finditer(text):
            words = match[1].lower(), match[2].lower()
            example = all(w in EXAMPLE_USERS or _PLACEHOLDER.search(w) for w in words)
            yield _span(match.span(), "login", example or "{" in match[0] or "$" in match[0])


def _emails(text: str) -> Iterator[Span]:
    for at in _AT.finditer(text):
        local = _LOCAL.search(text[max(0, at.start() - 64) : at.start()])
        domain = _DOMAIN.match(text, at.end())
        if local is None or domain is None or ".." in local[0]:
            continue
        suffix = domain[2].lower()
        if len(suffix) != 2 and suffix not in GENERIC_TLDS:
            continue
        host = (domain[1] + domain[2]).lower()
        example = (
            suffix in {"example", "test", "invalid", "localhost"}
            or any(host == name or host.endswith("." + name) for name in EXAMPLE_DOMAINS)
            or local[0].lower() in EXAMPLE_NAMES
        )
        yield _span((at.start() - len(local[0]), domain.end()), "email", example)


def _ibans(text: str) -> Iterator[Span]:
    for match in _IBAN.finditer(text):
        compact = match[0].replace(" ", "")
        if IBAN_LENGTHS.get(compact[:2]) == len(compact) and iban_holds(compact):
            yield _span(match.span(), "iban", compact in EXAMPLE_IBANS)


def iban_holds(compact: str) -> bool:
    """ISO 13616: letters as numbers, the first four characters last, modulo 97 is 1."""
    turned = compact[4:] + compact[:4]
    return int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _cards(text: str) -> Iterator[Span]:
    for match in _CARD.finditer(text):
        digits = re.sub(r"[ -]", "", match[0])
        if card_brand(digits) and len(set(digits)) > 1 and luhn_holds(digits):
            yield _span(match.span(), "card", digits in EXAMPLE_CARDS)


def luhn_holds(digits: str) -> bool:
    """ISO/IEC 7812-1: every second digit from the right doubled, the digit sum divides by 10."""
    total = 0
    for index, character in enumerate(reversed(digits)):
        digit = int(character) * (1 + index % 2)
        total += digit - 9 if digit > 9 else digit
    return total % 10 == 0


def card_brand(digits: str) -> str | None:
    """The network whose prefix and length a number has; None for no network's."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4" and length in (13, 16, 19):
        return "visa"
    if length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720):
        return "mastercard"
    if length == 15 and two in (34, 37):
        return "amex"
    if length in (16, 19) and (four == 6011 or two == 65 or 6440 <= four <= 6499):
        return "discover"
    if length == 16 and 3528 <= four <= 3589:
        return "jcb"
    if length == 14 and (3000 <= four <= 3059 or two in (36, 38)):
        return "diners"
    return None


def _phones(text: str) -> Iterator[Span]:
    if "+" in text:
        for match in _PHONE_PLUS.finditer(text):
            digits = re.sub(r"\D", "", match[1])
            if 9 <= len(digits) <= 15 and _calling_code(digits) and len(set(digits)) > 2:
                yield _span(match.span(), "phone", "1234567" in digits or "55501" in digits)
    for match in _PHONE_US.finditer(text):
        spaced = match[2] in (" ", ".")
        if spaced and not _PHONE_WORD.search(text[max(0, match.start() - 24) : match.start()]):
            continue
        example = match[3] == "555" or len(set(match[0]) & set("0123456789")) < 3
        yield _span(match.span(), "phone", example)


def _calling_code(digits: str) -> bool:
    return any(digits[:length] in CALLING_CODES for length in (1, 2, 3))


def _addresses(text: str) -> Iterator[Span]:
    found = [*_IPV4.finditer(text), *_IPV4_URL.finditer(text)]
    if _IPV6_HINT.search(text):
        found.extend(_IPV6.finditer(text))
    for match in found:
        try:
            address = ipaddress.ip_address(match[0])
        except ValueError:
            continue
        before = text[max(0, match.start() - 12) : match.start()]
        if address.version == 4 and _NUMBERED.search(before):
            continue
        written = not address.is_global or match[0] in EXAMPLE_ADDRESSES
        yield _span(match.span(), "ip", written or _LOOKS_NUMBERED.fullmatch(match[0]) is not None)


def _entropy(value: str) -> float:
    counts = Counter(value).values()
    return -sum(n / len(value) * math.log2(n / len(value)) for n in counts)


def _span(at: tuple[int, int], kind: str, example: bool) -> Span:
    return Span(*at, kind + EXAMPLE if example else kind)


_FINDERS: tuple[Callable[[str], Iterator[Span]], ...] = (
    _secrets,
    _logins,
    _emails,
    _ibans,
    _cards,
    _phones,
    _addresses,
)
