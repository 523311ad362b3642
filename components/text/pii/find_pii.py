"""Detection of personal data and secrets in text, as spans of a kind.

Kinds are ``email``, ``phone``, ``ip``, ``card``, ``iban``, ``national_id`` (social security, tax,
passport, licence), ``login`` (a user and password in an address) and ``secret`` (keys, tokens,
private keys). What documentation writes as an example (``user@example.com``, 127.0.0.1, test cards)
is found too, as ``email_example`` and so on, so that whoever decides can tell them apart. Names
(``person``, ``place``) have no form of their own; a model finds them, where the user gives one.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import Literal

from components.text.pii.bank_numbers import find_cards, find_ibans
from components.text.pii.credentials import find_logins, find_secrets
from components.text.pii.digit_windows import digit_windows
from components.text.pii.email_addresses import find_emails
from components.text.pii.ip_addresses import find_ip_addresses
from components.text.pii.national_ids import find_national_ids
from components.text.pii.phone_numbers import find_phones
from components.text.spans import EXAMPLE_SUFFIX, Span, claim_spans

PII_KINDS = ("secret", "login", "email", "ip", "iban", "card", "national_id", "phone")
"""In order of precedence where two would claim the same characters."""
NAME_KINDS = ("person", "place")
PiiKind = Literal[
    "secret",
    "secret_example",
    "login",
    "login_example",
    "email",
    "email_example",
    "ip",
    "ip_example",
    "iban",
    "iban_example",
    "card",
    "card_example",
    "national_id",
    "national_id_example",
    "phone",
    "phone_example",
    "person",
    "place",
]
ALL_PII_KINDS = tuple(kind + suffix for kind in PII_KINDS for suffix in ("", EXAMPLE_SUFFIX))

_FULL_WIDTH = re.compile("[\uff01-\uff5e]")
_TO_ASCII = {sign: sign - 0xFEE0 for sign in range(0xFF01, 0xFF5F)} | {0x3000: 0x20}
"""Full-width forms of East Asian text, one character for one, so that offsets stay."""
_BY_SIGNS = (find_secrets, find_logins, find_emails, find_ip_addresses)
_BY_DIGITS = (find_ibans, find_cards, find_national_ids, find_phones)


def find_pii_spans(text: str) -> list[Span]:
    """Find all spans, sorted, none overlapping another."""
    if _FULL_WIDTH.search(text):
        text = text.translate(_TO_ASCII)
    windows = digit_windows(text)
    spans = [find(text) for find in _BY_SIGNS]
    if windows:
        spans += [find(text, windows) for find in _BY_DIGITS]
    claimed: list[Span] = []
    claim_spans(claimed, chain.from_iterable(spans))
    return claimed
