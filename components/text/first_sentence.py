"""Extraction of a section's first sentence, in prose and of a bounded length."""

from __future__ import annotations

import re
from collections.abc import Sequence

from components.text.markdown_sections import strip_markup

_NOT_PROSE = re.compile(
    r"\s*(?:\.\. |>>>|\$ |!!!|:[a-z]\w*[ :]|[-*+] |\d+[.)] |\||<[a-z!/]|\{|@)", re.IGNORECASE
)
_CALL = re.compile(r"[\w.`*]+\s*\(.*\)\s*(?:->.*)?", re.DOTALL)
_LEADING_CALL = re.compile(r"[\w.]+\([^()]*\)\s*(?:->\s*[\w.\[\], ]+?\s*)?--?\s+(?=\w)")
_LEADING_TYPE = re.compile(r"[A-Za-z_][\w.]*(?:\[[^\]]*\])?(?: ?\| ?\w+)*: (?=[A-Z])")
_EDITORIAL = re.compile(
    r"(?:new|changed|deprecated|added) (?:in|since)\b|.. ?\w+::|x{3}\b|todo\b|fixme\b",
    re.IGNORECASE,
)
_RULER = re.compile(r"\s*([-=~^\"'*#])\1{2,}\s*$")
_LABEL = re.compile(r"\w[\w ]{0,30}:$")
_END = re.compile(r"[.!?][\"')\]]*(?=\s+[\"'(\[]?[A-Z0-9])")
_SHORTENED = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|resp|approx|Dr|Mr|No|Fig|Eq|al|St)|\b[A-Z])\.$"
)
_WORD = re.compile(r"[A-Za-z]{2,}")


def count_words(text: str) -> int:
    """Number of words separated by white space."""
    return len(text.split())


def first_sentence(
    paragraphs: Sequence[str], *, min_words: int = 3, max_words: int = 40, tries: int = 2
) -> str | None:
    """The first sentence of the first prose paragraph, without markup, closed by a full stop.

    Directives, doctests, lists, field lists, tables, rulers and bare signatures are passed over;
    of prose paragraphs only the first ``tries`` are looked at. None where nothing fits.

    Args:
        paragraphs: paragraphs of one section, in order, as written.
        min_words: fewest words of a sentence.
        max_words: most words of a sentence; longer ones are never cut.
        tries: prose paragraphs to look at.
    """
    looked = 0
    for paragraph in paragraphs:
        if not is_prose(paragraph):
            if _RULER.match(paragraph.split("\n")[-1]) or _is_underlined_heading(paragraph):
                return None
            continue
        sentence = _leading_sentence(paragraph)
        if sentence and min_words <= count_words(sentence) <= max_words:
            return sentence
        looked += 1
        if looked >= tries:
            return None
    return None


def is_prose(paragraph: str) -> bool:
    """True for a paragraph of sentences, not of code, a list, a table or a signature."""
    first = paragraph.split("\n", 1)[0]
    if paragraph.startswith(("    ", "\t")) or _NOT_PROSE.match(paragraph):
        return False
    called = _CALL.fullmatch(paragraph.strip()) and not _LEADING_CALL.match(paragraph)
    if called or _is_underlined_heading(paragraph):
        return False
    if _LABEL.fullmatch(first.strip()) and "\n" in paragraph:
        return False
    return len(_WORD.findall(paragraph)) >= 2


def _is_underlined_heading(paragraph: str) -> bool:
    """A heading underlined by a ruler: numpydoc's ``Parameters`` and its like."""
    lines = paragraph.split("\n")
    return any(_RULER.match(line) for line in lines[1:2])


def _leading_sentence(paragraph: str) -> str | None:
    text = strip_markup(_prose_lines(paragraph))
    text = _LEADING_TYPE.sub("", _LEADING_CALL.sub("", text, count=1), count=1)
    for end in _END.finditer(text):
        candidate = text[: end.end()]
        if not _SHORTENED.search(candidate):
            text = candidate
            break
    text = text.strip()
    if (
        not text
        or _EDITORIAL.match(text)
        or text.endswith((":", ",", ";", "..."))
        or "::" in text
        or ">>>" in text
    ):
        return None
    if text[-1] not in ".!?" and not text.endswith(('."', ".)", ".'")):
        text += "."
    return text[0].upper() + text[1:] if text[0].islower() and _WORD.match(text) else text


def _prose_lines(paragraph: str) -> str:
    """Lines up to where a list, a field list or a ruler begins."""
    lines: list[str] = []
    for line in paragraph.split("\n"):
        if lines and (_NOT_PROSE.match(line) or _RULER.match(line)):
            break
        lines.append(line)
    return "\n".join(lines)
