"""Inline marks as characters: powers, footnotes, readings, signs nobody sees."""

from __future__ import annotations

import re

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import INVISIBLE, drop, put_text

_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_ORDINAL = re.compile(
    r"(?:st|nd|rd|th|er?|re|ème|nde?|o|a|os|as|ª|º|TM|SM|®|™|©|℠)\.?", re.IGNORECASE
)
"""Raised for looks alone: 1st, 2e, 3º, a trade mark."""
_NOTE_CLASS = re.compile(r"footnote|fnref|reference|\bcite", re.IGNORECASE)
_NOTE_MARK = re.compile(r"\[?\s*(\d{1,4}|[a-z]|\*{1,3}|[†‡§¶])\s*\]?", re.IGNORECASE)
_BACKLINK = re.compile(r"\s*(?:[↩↑⤴⏎]\ufe0e?|\^)\s*")
_UNWRAPPED = (
    *("ruby", "rb", "ins", "u", "abbr", "acronym", "mark", "font", "data"),
    *("bdi", "bdo", "nobr", "wbr", "big", "small", "blink"),
)
_ROWS = ("li", "div", "dd", "td", "a", "p")
_SPACE = re.compile(r"[ \t\n\r\f\v\u00a0\u2009\u200a\u202f]+")
_PLAIN = "plain-words"
"""A tag that no page has, for what is unwrapped at once: one by one takes the square of time."""
_EMPHASIS = ("em", "i", "strong", "b")


def restore_inline(root: Element) -> None:
    """Say in characters what marks mean, and unwrap what only dresses words."""
    for link in list(root.iter("a")):
        if _is_backlink(link):
            drop(link)
    for element in list(root.iter("sup", "sub")):
        _restore_script(element)
    for reading in list(root.iter("rp", "rt")):
        if reading.tag == "rp":
            drop(reading)
        else:
            put_text(reading, f"({' '.join(reading.text_content().split())})")
    etree.strip_tags(root, *_UNWRAPPED)
    for span in list(root.iter("span")):
        _part_spans(span)
    for element in root.iter():
        if element.text:
            element.text = INVISIBLE.sub("", element.text)
        if element.tail:
            element.tail = INVISIBLE.sub("", element.tail)


def write_inline(root: Element) -> None:
    """Links become their words, white space that of a browser; emphasis that collides goes."""
    etree.strip_tags(root, "a", "time", "label", "output")  # marks of what is no text, until here
    _part_emphasis(root)
    for element in root.iter():
        parent = element.getparent()
        in_pre = parent is not None and parent.tag == "pre"
        if element.text and element.tag != "pre" and not in_pre:
            element.text = _SPACE.sub(" ", element.text)
        if element.tail and not in_pre:
            element.tail = _SPACE.sub(" ", element.tail)


def _is_backlink(link: Element) -> bool:
    """The arrow that leads from a footnote to its mark."""
    return _BACKLINK.fullmatch(link.text_content()) is not None and (
        any(outer.tag == "li" for outer in link.iterancestors()) or link.get("rev") is not None
    )


def _part_spans(span: Element) -> None:
    """A name and its value in spans that a style sheet sets apart: words are not to be glued."""
    following, parent = span.getnext(), span.getparent()
    if following is None or following.tag != "span" or span.tail or parent.text:
        return
    first, second = span.text_content(), following.text_content()
    is_glued = first[-1:].isalnum() and second[:1].isalnum()
    if is_glued and parent.tag in _ROWS and len(first) > 1 and len(second) > 1:
        span.tail = " "


def _restore_script(element: Element) -> None:
    """A raised or lowered text: a mark of a footnote, an ordinal's ending, a power, an index."""
    text = " ".join(element.text_content().split())
    note = _NOTE_MARK.fullmatch(text)
    is_linked = next(element.iter("a"), None) is not None or any(
        outer.tag == "a" for outer in element.iterancestors()
    )
    is_raised = element.tag == "sup"
    named = f"{element.get('class') or ''} {element.get('id') or ''}"
    is_linked = is_linked or _NOTE_CLASS.search(named) is not None
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


def _part_emphasis(root: Element) -> None:
    """``<b>bold</b><i>it</i>``: Markdown's marks would run into one another, so they go."""
    for element in root.iter(*_EMPHASIS):
        following = element.getnext()
        touches = following is not None and following.tag in _EMPHASIS and not element.tail
        if touches or not element.text_content().strip():
            element.tag = _PLAIN
    etree.strip_tags(root, _PLAIN)
