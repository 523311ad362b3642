"""Detection of licences in text: signs with their places, as SPDX identifiers.

A sign is no legal finding: a page may write about a licence, or quote one. So each keeps its kind,
strongest first: ``declared`` (an SPDX tag, HTML's rel=license, schema.org's license), ``linked``
(an address of Creative Commons' deeds), ``stated`` ("licensed under ..."), ``reserved``. Sources:
SPDX specification 2.3, annex E; HTML standard, link type "license"; schema.org/license.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable
from typing import NamedTuple

SIGN_KINDS = ("declared", "linked", "stated", "reserved")
"""Strongest first."""
ALL_RIGHTS_RESERVED = "LicenseRef-all-rights-reserved"
OTHER_LICENCE = "LicenseRef-other"
"""A licence that is declared by an address of no known licence."""


class LicenceSign(NamedTuple):
    """Characters ``start`` to ``end`` say ``licence``."""

    start: int
    end: int
    kind: str
    licence: str


_DEED = re.compile(
    r"creativecommons\.org/(?:licenses|publicdomain)/"
    r"(by(?:-nc)?(?:-sa|-nd)?|zero|mark)(?:/(\d\.\d))?",
    re.IGNORECASE,
)
_TAG = re.compile(
    r"SPDX-License-Identifier:[ \t]*"
    r"(\(?[A-Za-z0-9.+-]+(?:[ \t]+(?:OR|AND|WITH)[ \t]+[A-Za-z0-9.+-]+)*\)?)"
)
_REL = re.compile(r"<(?:a|link)\b[^>]{0,300}\brel=[\"']?[^\"'>]{0,40}\blicense\b[^>]{0,300}>", re.I)
_SCHEMA = re.compile(
    r"(?:[\"']license[\"']\s*:\s*[\"']|itemprop=[\"']license[\"'][^>]{0,100}?"
    r"(?:href|content)=[\"'])(https?://[^\"'\s]{4,200})[\"']",
    re.IGNORECASE,
)
_SHORT = re.compile(
    r"(?<!\w)(?:CC[ -](BY(?:[ -]NC)?(?:[ -](?:SA|ND))?)(?:[ -]?v?(\d\.\d))?"
    r"|(CC0)(?:[ -]?(1\.0))?)(?![\w-])"
)
_LONG = re.compile(
    r"Creative Commons[ -]Attribution((?:[ -]+(?:Non-?Commercial|Share-?Alike|No-?Deriv(?:ative)?s?"
    r"(?: Works)?))*)(?:[ -]+(\d\.\d))?",
    re.IGNORECASE,
)
_UNDER = re.compile(
    r"(?:licen[cs]ed|released|distributed|available|published|provided|shared)\s+(?:\w+\s+)?under\s+"
    r"(?:an?\s+|the\s+)?(?:terms\s+of\s+)?(?:the\s+)?((?:[^.;\n]|\.(?=\d)){2,70})",
    re.IGNORECASE,
)
_RESERVED = re.compile(r"all rights reserved", re.IGNORECASE)
_NAMED: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), licence)
    for pattern, licence in (
        (r"\bMIT\b", "MIT"),
        (r"\bApache\b", "Apache-2.0"),
        (r"\b(?:3-clause|new|modified) BSD\b|\bBSD[ -]3", "BSD-3-Clause"),
        (r"\b(?:2-clause|simplified) BSD\b|\bBSD[ -]2", "BSD-2-Clause"),
        (r"\b(?:Affero General|AGPL)\b", "AGPL-3.0"),
        (r"\b(?:Lesser General|LGPL)\b", "LGPL"),
        (r"\b(?:General Public Licen[cs]e|GPL)(?:,? ?(?:v|version) ?|[ -])2", "GPL-2.0"),
        (r"\b(?:General Public Licen[cs]e|GPL)(?:,? ?(?:v|version) ?|[ -])3", "GPL-3.0"),
        (r"\bFree Documentation\b|\bGFDL\b", "GFDL"),
        (r"\b(?:Mozilla Public|MPL)\b", "MPL-2.0"),
        (r"\bOpen Government Licen[cs]e\b|\bOGL\b", "OGL-UK-3.0"),
        (r"\bPython Software Foundation\b|\bPSF\b", "PSF-2.0"),
        (r"\bpublic domain\b", "LicenseRef-public-domain"),
    )
)


def find_licences(text: str) -> list[LicenceSign]:
    """Find all signs, the strongest kind first, then in order of the text; none overlap."""
    candidates = [
        *_signs_of_pattern(_TAG, text, "declared", lambda match: match[1].strip("()")),
        *_signs_of_pattern(_REL, text, "declared", lambda match: licence_of(match[0])),
        *_signs_of_pattern(_SCHEMA, text, "declared", lambda match: licence_of(match[1])),
        *_signs_of_pattern(
            _DEED, text, "linked", lambda match: _creative_commons_id(match[1], match[2])
        ),
        *_signs_of_pattern(
            _SHORT, text, "stated", lambda m: _creative_commons_id(m[1] or "zero", m[2] or m[4])
        ),
        *_signs_of_pattern(
            _LONG,
            text,
            "stated",
            lambda match: _creative_commons_id(_creative_commons_terms(match[1]), match[2]),
        ),
        *_signs_of_pattern(_UNDER, text, "stated", lambda match: licence_of(match[1])),
        *_signs_of_pattern(_RESERVED, text, "reserved", lambda _: ALL_RIGHTS_RESERVED),
    ]
    signs: list[LicenceSign] = []
    taken: list[tuple[int, int]] = []
    for sign in sorted(candidates, key=lambda sign: (SIGN_KINDS.index(sign.kind), sign)):
        at = bisect_left(taken, sign[:2])
        free = at == 0 or taken[at - 1][1] <= sign.start
        if free and (at == len(taken) or sign.end <= taken[at][0]):
            taken.insert(at, (sign.start, sign.end))
            signs.append(sign)
    return signs


def licence_of(words: str) -> str:
    """The SPDX identifier that some words or an address name; empty where they name none."""
    deed, short, long = _DEED.search(words), _SHORT.search(words), _LONG.search(words)
    if deed:
        return _creative_commons_id(deed[1], deed[2])
    if short:
        return _creative_commons_id(short[1] or "zero", short[2] or short[4])
    if long:
        return _creative_commons_id(_creative_commons_terms(long[1]), long[2])
    for pattern, licence in _NAMED:
        if pattern.search(words):
            return licence
    return OTHER_LICENCE if "://" in words else ""


def _signs_of_pattern(
    pattern: re.Pattern[str], text: str, kind: str, read: Callable[[re.Match[str]], str]
) -> list[LicenceSign]:
    signs = ((match.span(), read(match)) for match in pattern.finditer(text))
    return [LicenceSign(*span, kind, licence) for span, licence in signs if licence]


def _creative_commons_id(terms: str, version: str | None) -> str:
    """``by-nc`` and ``4.0`` as ``CC-BY-NC-4.0``."""
    code = terms.upper().replace(" ", "-")
    if code in ("ZERO", "MARK"):
        return "CC0-1.0" if code == "ZERO" else "LicenseRef-public-domain"
    return f"CC-{code}-{version}" if version else f"CC-{code}"


def _creative_commons_terms(long: str) -> str:
    folded = long.casefold()
    parts = [("nc", "commercial"), ("sa", "alike"), ("nd", "deriv")]
    return "-".join(["by", *(short for short, word in parts if word in folded)])
