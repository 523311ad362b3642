"""Payment cards and bank accounts in text: shape, issuer and check digits must all hold."""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.text.pii.check_digits import ean_holds, iban_holds, luhn_holds
from components.text.pii.digit_windows import Windows, find_in_windows
from components.text.pii.pii_tables import EXAMPLE_CARDS, EXAMPLE_IBANS, IBAN_LENGTHS
from components.text.spans import Span, make_span

_CARD = re.compile(
    r"(?<![\w.,+/#-])\d(?:\d{11,18}|\d{3}([ .\u00a0-])\d{4}\1\d{4}\1(?:\d{4}(?:\1\d{3})?|\d{2})"
    r"|\d{3}([ .\u00a0-])\d{6}\2\d{4,5})(?![\w]|-\d|[.,]\d)"
)
_CARD_WORD = re.compile(
    r"(?:\bcards?\b|credit|debit|maestro|payment|visa|amex)[^\n]{0,40}$", re.IGNORECASE
)
_ALWAYS = frozenset((13, 14, 15, 16))
"""Lengths that are a card's without a word beside it; 12 and 19 digits are many things."""
_LOOK_BACK = 60
"""Characters before a number in which a word may say that it is a card."""
_MAESTRO = ("5018", "5020", "5038", "5893", "6304", "6759", "6761", "6762", "6763", "0604", "6390")
_IBAN = re.compile(
    r"(?<!\w)[A-Z]{2}\d{2}(?:[A-Z0-9]{11,30}"
    r"|([ -])[A-Z0-9]{2,6}(?:\1[A-Z0-9]{1,12}){1,8})(?!\w)",
    re.IGNORECASE,
)


def find_ibans(text: str, windows: Windows) -> Iterator[Span]:
    """Find IBANs, also in small letters; a word that follows the number is left out."""
    for match in find_in_windows(_IBAN, text, windows):
        length = IBAN_LENGTHS.get(match[0][:2].upper())
        end = _end_of_group(match[0], length) if length else None
        if end is None:
            continue
        compact = re.sub(r"[ -]", "", match[0][:end]).upper()
        if iban_holds(compact):
            yield make_span((match.start(), match.start() + end), "iban", compact in EXAMPLE_IBANS)


def _end_of_group(number: str, length: int) -> int | None:
    """Index after ``length`` letters and digits, if a group ends there."""
    count = 0
    for at, sign in enumerate(number):
        count += sign not in " -"
        if count == length:
            return at + 1 if not number[at + 1 : at + 2].isalnum() else None
    return None


def find_cards(text: str, windows: Windows) -> Iterator[Span]:
    """Find payment card numbers: spans of kind ``card``."""
    for match in find_in_windows(_CARD, text, windows):
        digits = re.sub(r"\D", "", match[0])
        if not card_brand(digits) or len(set(digits)) == 1 or not luhn_holds(digits):
            continue
        before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
        alone = len(digits) in _ALWAYS and not _is_article_number(digits)
        if alone or not match[0].isdigit() or _CARD_WORD.search(before):
            yield make_span(match.span(), "card", digits in EXAMPLE_CARDS)


def _is_article_number(digits: str) -> bool:
    """True for an EAN-13, whose prefixes 40 to 49 (Germany, Japan) are also those of old cards."""
    return len(digits) == 13 and ean_holds(digits)


def card_brand(digits: str) -> str | None:
    """Network whose prefix and length a card number has; None for no network's."""
    length, two, four = len(digits), int(digits[:2]), int(digits[:4])
    if digits[0] == "4" and length in (13, 16, 19):
        return "visa"
    if length == 16 and (51 <= two <= 55 or 2221 <= four <= 2720):
        return "mastercard"
    if length == 15 and two in (34, 37):
        return "amex"
    if length in (16, 19) and (four == 6011 or two == 65 or 6440 <= four <= 6499):
        return "discover"
    if (length == 16 and 3528 <= four <= 3589) or (length == 15 and four in (2131, 1800)):
        return "jcb"
    if length == 14 and (3000 <= four <= 3059 or four == 3095 or two in (36, 38)):
        return "diners"
    if 16 <= length <= 19 and two == 62:
        return "unionpay"
    if 12 <= length <= 19 and (digits[:4] in _MAESTRO or two in (56, 57, 58)):
        return "maestro"
    return None
