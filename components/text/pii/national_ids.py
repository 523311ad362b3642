"""Detection of national ids: social security, tax, identity card, passport, driving licence.

A number counts without further words where its shape is its own or its check digits hold; the
others only beside a word that names them. Check digits: the issuers' publications, as collected in
ISO 7064 (modulo 97, 11-2), ISO/IEC 7812 (Luhn), and the national registers named below.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from components.text.pii.check_digits import ean_holds, elevens_hold, luhn_holds, verhoeff_holds
from components.text.pii.digit_windows import Windows, find_in_windows
from components.text.spans import Span, make_span

KIND = "national_id"
_EXAMPLES = frozenset(("078051120", "219099999", "123456789", "987654321", "111111111"))
"""Social security numbers that were printed in advertisements, and keyboard runs."""
_RUNS = re.compile(r"(\d)\1{2}(\d)\2(\d)\3{3}")
"""111-22-3333 and its like, as examples are made."""
_BACK = 56
"""Characters before a number in which its label may stand."""


class _IdFormat(NamedTuple):
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]
    """Check of the number, which comes without its separators, in capitals."""
    label: re.Pattern[str] | None = None
    """Words that must stand beside it; None where the shape alone is enough."""


def _shape(body: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.+$€£/-])(?:{body})(?![\w+]|-\w|[.,]\d)")


def _label(body: str) -> re.Pattern[str]:
    return re.compile(rf"(?<!\w)(?:{body})(?!\w)", re.IGNORECASE)


def _always_holds(_: str) -> bool:
    return True


def _social_security(number: str) -> bool:
    """Area, group and serial that the SSA gives out, or an ITIN of the IRS."""
    area, group, serial = number[:3], number[3:5], number[5:]
    if area[0] == "9":
        return group[0] in "56789"
    return area not in ("000", "666") and group != "00" and serial != "0000"


def _date_at(at: int, order: str = "ymd") -> Callable[[str], bool]:
    """Check that six digits from ``at`` are a date."""

    def holds(number: str) -> bool:
        part = {sign: number[at + 2 * i : at + 2 * i + 2] for i, sign in enumerate(order)}
        return part["m"].isdigit() and 1 <= int(part["m"]) <= 12 and 1 <= int(part["d"]) <= 31

    return holds


def _dni(number: str) -> bool:
    """Spain: the letter is that of the number modulo 23."""
    digits = number[:-1].translate(str.maketrans("XYZ", "012"))
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(digits) % 23] == number[-1]


def _hetu(number: str) -> bool:
    """Finland: the sign is that of date and serial modulo 31."""
    return "0123456789ABCDEFHJKLMNPRSTUVWXY"[int(number[:6] + number[-4:-1]) % 31] == number[-1]


def _nir(number: str) -> bool:
    """France: the key is 97 less the number modulo 97; 2A and 2B are Corsica."""
    digits = number[:-2].replace("2A", "19").replace("2B", "18")
    return digits.isdigit() and 97 - int(digits) % 97 == int(number[-2:])


def _cpf(number: str) -> bool:
    """Brazil: two check digits modulo 11, weights from 2 upward."""
    for length in (9, 10):
        total = sum(int(d) * (length + 1 - i) for i, d in enumerate(number[:length]))
        if total * 10 % 11 % 10 != int(number[length]):
            return False
    return len(set(number)) > 1


def _resident(number: str) -> bool:
    """China: ISO 7064 modulo 11-2 over all 18 places."""
    total = sum(pow(2, 17 - i, 11) * (10 if d == "X" else int(d)) for i, d in enumerate(number))
    return total % 11 == 1 and _date_at(8)(number)


def _rijksregister(number: str) -> bool:
    """Belgium: 97 less the first nine digits modulo 97; those born from 2000 on with a 2 before."""
    body, key = int(number[:9]), int(number[9:])
    return key in (97 - body % 97, 97 - (2_000_000_000 + body) % 97)


def _nric(number: str) -> bool:
    """Singapore: weights 2 7 6 5 4 3 2, with letters of their own for each series."""
    weights = (2, 7, 6, 5, 4, 3, 2)
    total = sum(int(d) * w for d, w in zip(number[1:8], weights, strict=True))
    total += 4 if number[0] in "TG" else 3 if number[0] == "M" else 0
    letters = {"S": "JZIHGFEDCBA", "T": "JZIHGFEDCBA", "F": "XWUTRQPNMLK", "G": "XWUTRQPNMLK"}
    return number[0] not in letters or letters[number[0]][total % 11] == number[-1]


def _pesel(number: str) -> bool:
    """Poland: weights 1 3 7 9, repeated, to a multiple of ten."""
    return sum(int(d) * (1, 3, 7, 9)[i % 4] for i, d in enumerate(number[:10])) % 10 == (
        -int(number[10]) % 10
    )


def _personnummer(number: str) -> bool:
    """Sweden: Luhn over the last ten digits, a date at their head."""
    return luhn_holds(number[-10:]) and _date_at(0)(number[-10:])


_LICENCE = (
    r"dl(?: ?(?:#|no\.?|number))?|licen[cs]e ?(?:#|no\b\.?|numbers?)|"
    r"driv(?:er|ing)(?:['’]?s)? ?(?:licen[cs]e|permit)|driver ?id|fahrerlaubnis|führerschein"
)
_PASSPORT = r"passports?|reisepass|passeport|pasaporte"
_IDENTITY = (
    r"(?:national|personal|citizen|voter|identity|tax(?:payer)?) ?(?:id(?:entification|entity)?|"
    r"card)(?: (?:card|number|no\.?))?|id[ -]?card|identity (?:card|number)|personalausweis\w*|"
    r"steuer-?id\w*|steueridentifikations\w*|medicare|nhs|curp|nif|pesel|aadhaa?r|"
    r"social (?:insurance|security)|\bt[if]n\b|bsn|burgerservicenummer|personnummer|cpr"
)
_SSN = r"ssn|itin|social[ -]?sec(?:urity)?(?: ?(?:number|no\.?|#))?|soc\.? ?sec\.?|tax ?id\w*"
_FORMATS = (
    _IdFormat(_shape(r"\d{3}-\d{2}-\d{4}"), _social_security),  # United States
    _IdFormat(_shape(r"\d{3}([ .]?)\d{2}\1\d{4}"), _social_security, _label(_SSN)),
    _IdFormat(  # United Kingdom, national insurance
        _shape(
            r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
            r" \d{2} \d{2} \d{2} [A-D]"
        ),
        _always_holds,
    ),
    _IdFormat(  # without spaces it is also a disk's name
        _shape(r"(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]\d{6}[A-D]"),
        _always_holds,
        _label(r"ni(?:no)?|nat(?:ional|\.) ?ins(?:urance|\.)?(?: ?(?:number|no\.?))?"),
    ),
    _IdFormat(_shape(r"(?:\d{8}|[XYZ]-?\d{7})-?[A-HJ-NP-TV-Z]"), _dni),
    _IdFormat(  # Italy, codice fiscale
        _shape(r"[A-Z]{3}( ?)[A-Z]{3}\1\d{2}[A-EHLMPRST]\d{2}\1[A-Z]\d{3}[A-Z]"),
        _always_holds,
    ),
    _IdFormat(
        _shape(r"[12]( ?)\d{2}\1(?:0[1-9]|1[0-2])\1(?:\d{2}|2[AB])\1\d{3}\1\d{3}\1\d{2}"), _nir
    ),
    _IdFormat(_shape(r"\d{3}\.\d{3}\.\d{3}-\d{2}"), _cpf),
    _IdFormat(_shape(r"\d{11}"), _cpf, _label("cpf")),
    _IdFormat(_shape(r"[1-9]\d{16}[\dX]"), _resident),
    _IdFormat(_shape(r"\d{6}[-+A]\d{3}[0-9A-FHJ-NPR-Y]"), _hetu),
    _IdFormat(_shape(r"(?:19|20)?\d{6}[-+]\d{4}"), _personnummer),
    _IdFormat(
        _shape(r"\d{6}-?\d{4}"), _date_at(0, "dmy"), _label(r"cpr(?:[ -]?(?:nr|nummer|number))?")
    ),
    _IdFormat(_shape(r"\d{6}-[1-8]\d{6}"), _date_at(0)),  # Korea
    _IdFormat(_shape(r"756\.\d{4}\.\d{4}\.\d{2}"), ean_holds),  # Switzerland
    _IdFormat(_shape(r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"), _rijksregister),
    _IdFormat(_shape(r"[STFGM]\d{7}[A-Z]"), _nric),
    _IdFormat(_shape(r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d"), _date_at(4)),  # Mexico
    _IdFormat(_shape(r"[2-9]\d{3}([ -]?)\d{4}\1\d{4}"), verhoeff_holds, _label("aadhaa?r|uidai")),
    _IdFormat(_shape(r"\d{3}([ -]?)\d{3}\1\d{3}"), luhn_holds, _label("sin|social insurance")),
    _IdFormat(_shape(r"\d{11}"), _pesel, _label("pesel")),
    _IdFormat(_shape(r"\d{9}"), elevens_hold, _label("bsn|burgerservicenummer|sofi-?nummer")),
    _IdFormat(_shape(r"[A-Z]{0,2}\d{6,9}|[A-Z0-9]{9}(?<=\d)"), _always_holds, _label(_PASSPORT)),
    _IdFormat(
        _shape(r"(?i:(?=(?:[A-Z-]*\d){5})[A-Z0-9](?:[A-Z0-9]|-(?=\w)){5,19})"),
        _always_holds,
        _label(_LICENCE),
    ),
    _IdFormat(
        _shape(r"(?=(?:[A-Z .-]?\d){5})[A-Z0-9](?:[A-Z0-9]|[ .-](?=\d)){6,18}"),
        _always_holds,
        _label(_IDENTITY),
    ),
)
_LINKED = re.compile(
    r"(?:(?:'s)?[\s:=#,(]*(?:is|was|are|no|no\.|nr|nr\.|number|numbers|num|card|id|code|of|the|"
    r"number is|ends in|as|following)?){0,5}[\s:=#(\"'*]*$",
    re.IGNORECASE,
)


_OWNED = re.compile(r" is (?:my|your|his|her|their|the) ", re.IGNORECASE)


def find_national_ids(text: str, windows: Windows) -> Iterator[Span]:
    """Find numbers of national registers: spans of kind ``national_id``, surer formats first."""
    for pattern, holds, label in _FORMATS:
        for match in find_in_windows(pattern, text, windows):
            if label is None or _stands_beside_label(text, match, label):
                yield from _checked_spans(match, holds)


def _stands_beside_label(text: str, match: re.Match[str], label: re.Pattern[str]) -> bool:
    """True where the label stands before the number (small words between) or after ("is my")."""
    names = list(label.finditer(text, max(0, match.start() - _BACK), match.start()))
    if names and _LINKED.fullmatch(text, names[-1].end(), match.start()):
        return True
    owned = _OWNED.match(text, match.end())
    return owned is not None and label.match(text, owned.end()) is not None


def _checked_spans(match: re.Match[str], holds: Callable[[str], bool]) -> Iterator[Span]:
    compact = re.sub(r"[ .]|(?<=\w)-(?=\w)", "", match[0])
    if "+" not in compact and not compact.isalnum():
        return
    if holds(compact.replace("+", "")):
        yield make_span(match.span(), KIND, compact in _EXAMPLES or bool(_RUNS.fullmatch(compact)))
