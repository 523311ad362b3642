"""Detection of telephone numbers as people write them.

A number is told by its shape where the shape says enough: an international prefix that exists
(ITU-T E.164), the North American 3-3-4 in brackets, dashes or dots, an area code in brackets with
nine digits or more. National shapes are those of many other things (amounts, ranges, part
numbers), so they count only beside a word that says so, before ("call me at", "Tel.") or after
("fax").
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from components.text.pii.digit_windows import Windows, find_in_windows
from components.text.pii.pii_tables import CALLING_CODES
from components.text.spans import Span, make_span

_EXTENSION = r"(?: ?(?:x|ext\.?|extension|#) ?\d{1,6})?"
_UNSPACED = r"\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
"""Letters of Thai, Japanese, Chinese and Korean, which touch a number without a blank."""
_END = rf"(?![^\W{_UNSPACED}]|\+|[-\u2011]\d|[.,/:]\d|%)"
_START = rf"(?<![^\W{_UNSPACED}])(?<![+=$€£#@/-])(?<!\d[.,:])"
_GAP = "[ .\u00a0\u2010-\u2013/-]"

_PLUS = re.compile(
    r"(?<![\w+=-])(?<!\d\.)\+(\d{1,3}(?:[ .-]?\(\d{1,4}\))?"
    r"(?:(?: ?[./\u2011-] ?|[ \u00a0])?\d{1,5}){1,5}(?:(?: ?[./\u2011-] ?|[ \u00a0])?\d{2,5}|-\d))"
    rf"{_EXTENSION}(?![\w+]|[.,]\d)"
)
_ZEROS = re.compile(
    _START + rf"00([1-9]\d{{0,2}}(?:{_GAP}(?:\(\d{{1,5}}\)|\d{{1,5}})){{2,6}}){_EXTENSION}{_END}"
)
_THREE_FOUR = re.compile(
    _START + r"(?:1[ .-])?(?:(\(\d{3}\)) ?|(\d{3})([ .\u2011-]))(\d{3})(?(3)\3|[ .\u2011-])"
    rf"(\d{{4}})({_EXTENSION}){_END}"
)
_BRACKETS = re.compile(
    rf"{_START}\((0?\d{{1,4}})\) ?(\d{{2,8}}(?:{_GAP}\d{{2,5}}){{0,3}}){_EXTENSION}{_END}"
)
_GROUPS = re.compile(
    rf"{_START}(?<!\d\))(?<!\d\) )\d{{1,5}}(?:{_GAP}\d{{2,8}}){{1,5}}(?:-\d)?{_EXTENSION}{_END}"
)
_AREA_SLASH = re.compile(
    rf"{_START}(?:0\d{{1,5}}(?: \d{{1,2}}){{0,2}}|\(0\d{{1,5}}\)) ?/ ?\d{{2,9}}"
    rf"(?:{_GAP}\d{{2,8}}){{0,4}}(?:-\d{{1,4}})?{_EXTENSION}{_END}"
)
"""An area code and a slash with blanks, as in German letterheads: ``0221 / 48 15-939``."""
_DIGITS = re.compile(rf"{_START}\d{{7,12}}{_EXTENSION}{_END}")

_WORDS = (
    "tel|telephone|telephones|telefon[eo]?|telefoon|telefonnummer|telefax|natel|mobil|rufen|"
    "erreichbar|erreichen|joindre|joignable|téléphonez|composez|chiama(?:re|teci)?|llámenos|"
    "freephone|switchboard|enquiries|téléphone|tél|teléfono|phone|phones|fax|"
    "mobile?|móvil|mob|cell|cellphone|cellular|handy|hotline|helpline|landline|whatsapp|voicemail|"
    "pager|dial|ph|sms|tlf|gsm|numéro|número|rufnummer|anrufen|appelez|llame"
)
_UNSPACED_WORDS = (
    "電話|电话|電話番号|手机|手機|携帯|致电|座机|热线|傳真|传真|ファックス|"
    "전화|휴대폰|휴대전화|핸드폰|연락처|팩스|โทร|มือถือ|แฟกซ์"
)
_OTHER_WORDS = (
    "هاتف|الهاتف|تلفون|تليفون|جوال|الجوال|موبايل|فاكس|תלפון|טלפון|נייד|פקס|טל'?|תל'?|"
    "फ\u093c?ोन|\u095eोन|मोबाइल|दूरभाष|тел|телефон|моб|факс|τηλ|τηλέφωνο|κινητό|φαξ|تلفن|همراه|فون|"
    "điện thoại"
)
"""Telephone, mobile and fax in scripts where such words have no Latin form."""
_LINES = (
    r"(?:support|help|service|phone|office|direct|toll[ -]?free|customer) ?(?:line|desk|number)"
)
_ASKED = (
    r"(?:my|your|his|her|their|our|contact|direct|office|home|work) (?:\w+ ){0,3}(?:number|no\.?)"
)
_VERBS = (
    r"(?:call|calls|called|calling|ring|text|texted|reach|reached|contact|answering|answer|"
    r"answered|pick(?:s|ing)? up)"
    r"(?: (?:me|us|him|her|them|you|back|now|today|directly|toll[ -]?free|free|cent(?:er|re)|"
    r"support|is|at|on|under|via|by|the|this|our|my|number|from))*"
)
_SAME_SENTENCE = r"(?:(?!\",\"|[.?!]\s+(?-i:[A-Z][a-z]{2}))[^\d\n])"
_BEFORE = re.compile(
    rf"(?:\b(?:{_WORDS}|{_LINES})\b\.?{_SAME_SENTENCE}{{0,30}}|\b{_ASKED}[^\d\n]{{0,12}}"
    rf"|\b{_VERBS}[ :,(]{{0,3}}"
    r"|\b(?:call|ring|reach|text|contact|phone) (?:[\w.'-]+ ){1,4}(?:at|on|under) "
    rf"|(?:^|\n)[^\w\n]{{0,8}}(?:{_WORDS})[^\w\n]{{0,8}}\n{{1,2}}[^\w\n]{{0,4}}"
    rf"|(?:{_UNSPACED_WORDS})[^\d\n]{{0,12}}|(?<!\w)(?:{_OTHER_WORDS})(?!\w){_SAME_SENTENCE}{{0,20}}"
    r"|(?:^|[\s(|,;])(?-i:[TMFP])[:.] ?)\Z",
    re.IGNORECASE,
)
_PRODUCT = re.compile(
    r"\b(?:models?|modell|modelo|modèle|parts?|series|serial|firmware|item|sku|article|artikel|"
    r"catalogue?|nokia|samsung|motorola|siemens|ericsson|huawei|panasonic|gigaset|alcatel|cisco|"
    r"yealink|snom|avaya|grandstream|polycom)(?: (?:no\.?|nr\.?|number|code|call))?[ :#.]{1,3}\Z",
    re.IGNORECASE,
)
"""Words right before a number that make it one of a product: ``Nokia 3310-2471-100 phone``."""
_AFTER = re.compile(
    r"(?: is (?:my|your|his|her|their|our|the) (?:\w+ ){0,2}?|[ ,]{0,2}[-–(\[]? ?)"
    r"(?:number to (?:call|dial)|office|fax|mobile|cell|cellphone|home|work|phone|tel|landline|"
    r"direct line|hotline|whatsapp)\b",
    re.IGNORECASE,
)
_LETTER = re.compile(r"(?:^|[\s(|,;])[TMF] \Z")
"""Of letterheads: ``T 020 7946 0958``."""
_LABEL = re.compile(r"(?<![^\W\d_])[^\W\d_]{3,20}[ *_]{0,3}:[ *_]{0,4}\Z")
_CHAINED = re.compile(
    rf"\b(?:{_WORDS}|{_LINES}|call|ring|text|contact)\b[^\d\n]{{0,20}}"
    r"(?:[+(]?\d[\d ()/.-]{6,20}(?: or| and| oder| und| ou| et|,|;|/) ){1,3}\Z",
    re.IGNORECASE,
)
"""A further number of ``call 020 7946 0958 or 020 7946 0959``."""
_NATIONAL = re.compile(
    r"0\d{2} \d{4} \d{4}|0\d{3} \d{3} \d{4}|0\d{4} \d{3} ?\d{3}|0\d{2} \d{3} \d{2} \d{2}"
    r"|0\d(?: \d{2}){4}"
)
"""Groups of British, Swiss and French numbers, with a trunk prefix: any label will do."""
_JOINED = re.compile(r"\d+(?:[-\u2011]\d+)*")
_LOOK_BACK, _LOOK_AHEAD = 90, 48
"""Characters around a number in which a word may say that it is one."""
_DATE = re.compile(
    r"(?:1[89]|20)\d\d([-./ ])(?:0?[1-9]|1[0-2])\1(?:[0-2]?\d|3[01])"
    r"|(?:[0-2]?\d|3[01])([-./ ])(?:[0-2]?\d|3[01])\2(?:1[89]|20)?\d\d"
    r"|(?:1[5-9]|20)\d\d[-–/](?:1[5-9]|20)\d\d"
    r"|(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
)
_AMOUNT = re.compile(r"\d{1,3}(?: \d{3})* 000")
_RANGE = re.compile(r"(\d{3})-(\d{3})")
_MODELS = re.compile(r"\d{4}(?:/\d{4})+")
_DECIMAL = re.compile(r"\+\d{4,}[.,]\d+")
"""A number with its sign; ``+49.30901820``, as registries write it, has a shorter head."""
_DIGIT_COUNT = range(7, 13)
"""Digits of a national number with its area code."""
_SHORT = re.compile(r"\d\d([ -])\d\d\1\d\d|\d{3}[ -]\d{3}")
"""Countries with six digits write them in pairs or threes."""


def find_phones(text: str, windows: Windows) -> Iterator[Span]:
    """Find telephone numbers: spans of kind ``phone``, repeated where several patterns match."""
    if "+" in text:
        for match in find_in_windows(_PLUS, text, windows):
            digits = re.sub(r"\D", "", match[1])
            if _DECIMAL.fullmatch(match[0]):
                continue
            if 8 <= len(digits) <= 15 and _has_calling_code(digits) and len(set(digits)) > 2:
                yield _phone_span(match)
    for match in find_in_windows(_ZEROS, text, windows):
        digits = re.sub(r"\D", "", match[1])
        if 9 <= len(digits) <= 18 and _has_calling_code(digits):
            yield _phone_span(match)
    for match in find_in_windows(_THREE_FOUR, text, windows):
        if _is_unambiguous(match):
            yield _phone_span(match)
    for match in find_in_windows(_BRACKETS, text, windows):
        digits = re.sub(r"\D", "", match[1] + match[2])
        grouped = len(digits) >= 9 and not match[2].isdigit()
        if len(digits) in _DIGIT_COUNT and (grouped or _is_beside_phone_word(text, match)):
            yield _phone_span(match)
    for pattern in (_AREA_SLASH, _GROUPS, _DIGITS):
        for match in find_in_windows(pattern, text, windows):
            if _is_plausible_number(match[0]) and _is_beside_phone_word(text, match):
                yield _phone_span(match)


def _is_unambiguous(match: re.Match[str]) -> bool:
    """True for 3-3-4 digits that are a number whatever stands beside them."""
    brackets, area, gap, exchange, _, extension = match.groups()
    if brackets or extension:
        return True
    exists = area[0] in "23456789" and exchange[0] in "23456789"
    return gap in "-\u2011" or (gap == "." and exists)


def _is_plausible_number(number: str) -> bool:
    digits = re.sub(r"\D", "", re.split(r"[ ]?[xe#]", number)[0])
    if len(digits) not in _DIGIT_COUNT and not _SHORT.fullmatch(number):
        return False
    if any(shape.fullmatch(number) for shape in (_DATE, _AMOUNT, _MODELS)):
        return False
    ends = _RANGE.fullmatch(number)
    if ends and ends[1] < ends[2]:
        return False
    return len(set(digits)) > 1


def _is_beside_phone_word(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - _LOOK_BACK) : match.start()]
    if _PRODUCT.search(before) and _JOINED.fullmatch(match[0]):
        return False
    if match[0][0] == "0" and _LETTER.search(before):
        return True
    if _NATIONAL.fullmatch(match[0]) and _LABEL.search(before):
        return True
    return bool(
        _AFTER.match(text, match.end(), match.end() + _LOOK_AHEAD)
        or _BEFORE.search(before)
        or _CHAINED.search(before)
    )


def _has_calling_code(digits: str) -> bool:
    return any(digits[:length] in CALLING_CODES for length in (1, 2, 3))


def _phone_span(match: re.Match[str]) -> Span:
    """Span of a number; those of films (555) and of keyboards are examples."""
    digits = re.sub(r"\D", "", match[0])
    fiction = re.search(r"(?<!\d)555[ .-]\d{4}(?!\d)|555-?01\d\d(?!\d)", match[0])
    area_555 = re.fullmatch(r"1?555\d{7}", digits)
    keyed = "123456" in digits or "55501" in digits or len(set(digits)) < 3
    return make_span(match.span(), "phone", bool(fiction or area_555 or keyed))
