"""Restoration of inline marks as characters: powers, footnotes, ruby readings, invisible signs."""

from __future__ import annotations

import re

from lxml import etree

from components.collect.extraction.tree.html_tree import Element
from components.collect.extraction.tree.tree_edits import INVISIBLE, drop_element, replace_with_text

_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_ORDINAL = re.compile(
    r"(?:st|nd|rd|th|er?|re|ème|nde?|o|a|os|as|ª|º|TM|SM|®|™|©|℠)\.?", re.IGNORECASE
)
"""Text that is raised for typography alone: 1st, 2e, 3º, a trade mark."""
_NOTE_CLASS = re.compile(r"footnote|fnref|reference|\bcite", re.IGNORECASE)
_NOTE_MARK = re.compile(r"\[?\s*(\d{1,4}|[a-z]|\*{1,3}|[†‡§¶])\s*\]?", re.IGNORECASE)
_BACKLINK = re.compile(r"\s*(?:[↩↑⤴⏎]\ufe0e?|\^)\s*")
_UNWRAPPED = (
    *("ruby", "rb", "ins", "u", "abbr", "acronym", "mark", "font", "data"),
    *("bdi", "bdo", "nobr", "wbr", "big", "small", "blink"),
)
_ROWS = ("li", "div", "dd", "td", "a", "p")
_SPACE = re.compile(r"[ \t\n\r\f\v\u00a0\u2009\u200a\u202f]+")
_PLAIN_TAG = "plain-words"
"""Tag that no page has, to unwrap many elements at once: one by one takes quadratic time."""
_EMPHASIS = ("em", "i", "strong", "b")


def restore_inline(root: Element) -> None:
    """Replace meaningful inline marks by characters, and unwrap those that only style words."""
    for link in list(root.iter("a")):
        if _is_backlink(link):
            drop_element(link)
    for element in list(root.iter("sup", "sub")):
        _restore_script(element)
    for reading in list(root.iter("rp", "rt")):
        if reading.tag == "rp":
            drop_element(reading)
        else:
            replace_with_text(reading, f"({' '.join(reading.text_content().split())})")
    etree.strip_tags(root, *_UNWRAPPED)
    for span in list(root.iter("span")):
        _separate_spans(span)
    for element in root.iter():
        if element.text:
            element.text = INVISIBLE.sub("", element.text)
        if element.tail:
            element.tail = INVISIBLE.sub("", element.tail)


def write_inline(root: Element) -> None:
    """Unwrap links, collapse white space as a browser does, and drop colliding emphasis."""
    # Until here, these tags told main text from navigation.
    etree.strip_tags(root, "a", "time", "label", "output")
    _separate_emphasis(root)
    for element in root.iter():
        parent = element.getparent()
        in_pre = parent is not None and parent.tag == "pre"
        if element.text and element.tag != "pre" and not in_pre:
            element.text = _SPACE.sub(" ", element.text)
        if element.tail and not in_pre:
            element.tail = _SPACE.sub(" ", element.tail)


def _is_backlink(link: Element) -> bool:
    """True for the arrow that leads from a footnote back to its mark."""
    return _BACKLINK.fullmatch(link.text_content()) is not None and (
        any(outer.tag == "li" for outer in link.iterancestors()) or link.get("rev") is not None
    )


def _separate_spans(span: Element) -> None:
    """Insert a blank between words in adjacent spans that a style sheet sets apart."""
    following, parent = span.getnext(), span.getparent()
    if following is None or following.tag != "span" or span.tail or parent.text:
        return
    first, second = span.text_content(), following.text_content()
    is_glued = first[-1:].isalnum() and second[:1].isalnum()
    if is_glued and parent.tag in _ROWS and len(first) > 1 and len(second) > 1:
        span.tail = " "


def _restore_script(element: Element) -> None:
    """Restore a raised or lowered text: a footnote mark, an ordinal's ending, a power, an index."""
    text = " ".join(element.text_content().split())
    note = _NOTE_MARK.fullmatch(text)
    is_linked = next(element.iter("a"), None) is not None or any(
        outer.tag == "a" for outer in element.iterancestors()
    )
    is_raised = element.tag == "sup"
    class_and_id = f"{element.get('class') or ''} {element.get('id') or ''}"
    is_linked = is_linked or _NOTE_CLASS.search(class_and_id) is not None
    if not text:
        drop_element(element)
    elif is_raised and is_linked:
        replace_with_text(element, f"[{note[1]}]" if note else f" {text}")
    elif element.xpath("boolean(.//p | .//div | .//li | .//img)") or len(text) > 40:
        element.tag = "span"
    elif is_raised and _ORDINAL.fullmatch(text):
        replace_with_text(element, text)
    else:
        replace_with_text(element, _shift_characters(text, is_raised))


def _shift_characters(text: str, is_raised: bool) -> str:
    """Text in Unicode's raised or lowered characters, else with TeX's ``^`` or ``_``."""
    moved = text.translate(_RAISED if is_raised else _LOWERED)
    if not set(moved) & set(text):
        return moved
    if len(text) > 1 and re.fullmatch(r"\W*", text):  # signs, such as a footnote mark
        return text
    mark = "^" if is_raised else "_"
    return f"{mark}{text}" if re.fullmatch(r"\w", text) else f"{mark}({text})"


def _separate_emphasis(root: Element) -> None:
    """Drop adjacent emphasis (``<b>bold</b><i>it</i>``), whose Markdown marks would collide."""
    for element in root.iter(*_EMPHASIS):
        following = element.getnext()
        touches = following is not None and following.tag in _EMPHASIS and not element.tail
        if touches or not element.text_content().strip():
            element.tag = _PLAIN_TAG
    etree.strip_tags(root, _PLAIN_TAG)
