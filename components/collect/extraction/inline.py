"""What marks inside a line mean, in characters: powers, footnotes, readings, signs nobody sees."""

from __future__ import annotations

import re

from components.collect.extraction.html_tree import Element
from components.collect.extraction.tree_edits import INVISIBLE, drop, put_text

_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_ORDINAL = re.compile(
    r"(?:st|nd|rd|th|er?|re|ème|nde?|o|a|os|as|ª|º|TM|SM|®|™|©|℠)\.?", re.IGNORECASE
)
"""Raised for looks alone: 1st, 2e, 3º, a trade mark."""
_NOTE_MARK = re.compile(r"\[?\s*(\d{1,4}|[a-z]|\*{1,3}|[†‡§¶])\s*\]?", re.IGNORECASE)
_UNWRAPPED = ("a", "ruby", "rb", "ins", "u", "abbr", "acronym", "mark", "font")
_SPACE = re.compile(r"[ \t\n\r\f\v\u00a0\u2009\u200a\u202f]+")
_EMPHASIS = ("em", "i", "strong", "b")


def restore_inline(root: Element) -> None:
    """Say in characters what marks mean, and unwrap the rest."""
    for element in list(root.iter("sup", "sub")):
        _restore_script(element)
    for reading in list(root.iter("rp", "rt")):
        if reading.tag == "rp":
            drop(reading)
        else:
            put_text(reading, f"({' '.join(reading.text_content().split())})")
    for element in list(
        root.iter("a", "ruby", "rb", "ins", "u", "abbr", "acronym", "mark", "font")
    ):
        if element is not root:
            element.drop_tag()
    for element in list(root.iter(*_EMPHASIS)):
        _part_emphasis(element)
    for element in root.iter():
        parent = element.getparent()
        in_pre = element.tag == "pre" or (parent is not None and parent.tag == "pre")
        if element.text:
            element.text = _shown(element.text, in_pre)
        if element.tail:
            element.tail = _shown(element.tail, parent is not None and parent.tag == "pre")


def _shown(text: str, in_pre: bool) -> str:
    """``text`` as a browser shows it: white space counts in ``pre`` alone."""
    text = INVISIBLE.sub("", text)
    return text if in_pre else _SPACE.sub(" ", text)


def _restore_script(element: Element) -> None:
    """A raised or lowered text: a mark of a footnote, an ordinal's ending, a power, an index."""
    text = " ".join(element.text_content().split())
    note = _NOTE_MARK.fullmatch(text)
    is_linked = next(element.iter("a"), None) is not None or any(
        outer.tag == "a" for outer in element.iterancestors()
    )
    is_raised = element.tag == "sup"
    if not text:
        drop(element)
    elif is_raised and is_linked:
        put_text(element, f"[{note[1]}]" if note else f" {text}")
    elif element.xpath("boolean(.//p | .//div | .//li | .//img)") or len(text) > 40:
        element.tag = "span"
    elif is_raised and _ORDINAL.fullmatch(text):
        put_text(element, text)
    else:
        put_text(element, _shifted(text, is_raised))


def _shifted(text: str, is_raised: bool) -> str:
    """Unicode's raised or lowered signs where it has all of them, else TeX's ``^`` and ``_``."""
    moved = text.translate(_RAISED if is_raised else _LOWERED)
    if not set(moved) & set(text):
        return moved
    if len(text) > 1 and re.fullmatch(r"\W*", text):  # signs, such as a mark of a footnote
        return text
    mark = "^" if is_raised else "_"
    return f"{mark}{text}" if re.fullmatch(r"\w", text) else f"{mark}({text})"


def _part_emphasis(element: Element) -> None:
    """``<b>bold</b><i>it</i>``: Markdown's marks would run into one another, so they go."""
    following = element.getnext()
    touches = following is not None and following.tag in _EMPHASIS and not element.tail
    if touches or not element.text_content().strip():
        element.drop_tag()
