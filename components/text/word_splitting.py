"""Words, normal form and prose of a text, as all scorers define them."""

from __future__ import annotations

import re
import unicodedata

from components.text.markdown_sections import without_fences

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""The eight of Gopher's quality filter (Rae et al. 2021, arXiv:2112.11446, appendix A)."""

_WORD = re.compile(r"\w+")
_WORD_BYTES = bytes(code if chr(code).isalnum() or chr(code) == "_" else 32 for code in range(256))
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_NAME_LIKE = re.compile(r"(?<![!-~])[!-~]*[_./\\<>=@{}()\[\]|~^][!-~]+")
"""From the first sign of a run on, or a run without a space costs the square of its length. Of
ASCII alone: scripts without spaces would lose a whole sentence to an identifier inside it."""
_HEADING = re.compile(r"^#{1,6}\s.*$", re.MULTILINE)


def split_words(text: str) -> list[str]:
    """Split a text into runs of letters, digits and underscores, case folded."""
    folded = text.casefold()
    if folded.isascii():  # the same words in a third of the time
        return folded.encode().translate(_WORD_BYTES).decode().split()
    return _WORD.findall(folded)


def word_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of each word of ``split_words``; in rare scripts case folding splits a word."""
    return [match.span() for match in _WORD.finditer(text)]


def normalise_text(text: str) -> str:
    """Normal form that exact duplicates share: NFKC, case folded, white space joined."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def extract_prose(text: str) -> str:
    """Extract the sentences of a page, without code, headings, identifiers and addresses.

    Identifiers are English-like in any language's documentation; they would outvote its sentences.
    """
    text = _INLINE_CODE.sub(" ", without_fences(text))
    return _NAME_LIKE.sub(" ", _HEADING.sub(" ", text))
