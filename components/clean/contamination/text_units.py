"""Units by which evaluation items and documents are compared: words, or signs without spaces.

Scripts that put no space between words (Han, kana, Thai, Lao, Khmer, Burmese) give a unit a sign;
a run of them would be one word as long as a sentence. Combining marks belong to what they stand on,
as Unicode's word boundaries have it (UAX 29, WB4), so a word of Hindi is one unit.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from components.text.word_splitting import split_words, word_spans

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f"
)
"""Thai and Lao, Burmese, Khmer, Han radicals and signs, kana, half-width kana.

Code points above U+FFFF would make the pattern slow; rare Han signs there are letters of a word.
"""
_MARK_CODES = range(0x300, 0x10000)
"""Code points among which combining marks are looked for."""
SIGN_SIZE = 0.5
"""Size of a sign, in words: a word of Chinese or Japanese has two in the mean."""


@functools.cache
def _unit_pattern() -> re.Pattern[str]:
    codes = (chr(code) for code in _MARK_CODES)
    marks = re.escape("".join(sign for sign in codes if unicodedata.category(sign)[0] == "M"))
    word = f"[^\\W{_SPACELESS}]+(?:[{marks}]+[^\\W{_SPACELESS}]*)*"
    return re.compile(f"{word}|[{_SPACELESS}][{marks}]*")


def split_units(text: str) -> list[str]:
    """Split a text into units, case folded and composed (NFC)."""
    if text.isascii():
        return split_words(text)
    return _unit_pattern().findall(unicodedata.normalize("NFC", text.casefold()))


def unit_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each unit of ``split_units``, in characters of the text."""
    if text.isascii():
        return word_spans(text)
    return [match.span() for match in _unit_pattern().finditer(text)]


def unit_size(unit: str) -> float:
    """Size of a unit in words."""
    return SIGN_SIZE if re.match(f"[{_SPACELESS}]", unit) else 1.0
