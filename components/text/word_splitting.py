"""Words and prose: what scorers mean by them."""

from __future__ import annotations

import re
import unicodedata

from components.text.markdown_sections import without_fences

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""The eight of Gopher's quality filter (Rae et al. 2021, arXiv:2112.11446, appendix A)."""

_WORD = re.compile(r"\w+")
_WORD_BYTES = bytes(code if chr(code).isalnum() or chr(code) == "_" else 32 for code in range(256))
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_NAME_LIKE = re.compile(r"(?<!\S)\S*[_./\\<>=@{}()\[\]|~^]\S+")
"""From the first sign of a run on, or a run without a space costs the square of its length."""
_HEADING = re.compile(r"^#{1,6}\s.*$", re.MULTILINE)


def split_words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded."""
    folded = text.casefold()
    if folded.isascii():  # the same words in a third of the time
        return folded.encode().translate(_WORD_BYTES).decode().split()
    return _WORD.findall(folded)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Where each word of ``split_words`` stands (folding case splits a word in the rarest of scripts)."""
    return [match.span() for match in _WORD.finditer(text)]


def normalise_text(text: str) -> str:
    """What two exact duplicates share: NFKC, case folded, white space joined."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def extract_prose(text: str) -> str:
    """The sentences of a page: without code, headings, names with dots or underscores, addresses.

    Identifiers are English-like in any language's documentation; they would outvote its sentences.
    """
    text = _INLINE_CODE.sub(" ", without_fences(text))
    return _NAME_LIKE.sub(" ", _HEADING.sub(" ", text))
