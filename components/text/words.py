"""Words and prose: what scorers mean by them."""

from __future__ import annotations

import re
import unicodedata

from components.text.markdown import without_fences

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
"""The eight of Gopher's quality filter (Rae et al. 2021, arXiv:2112.11446, appendix A)."""

_WORD = re.compile(r"\w+")
_INLINE_CODE = re.compile(r"`[^`\n]*`")
_NAME_LIKE = re.compile(r"\S*[_./\\<>=@{}()\[\]|~^]\S+")
_HEADING = re.compile(r"^#{1,6}\s.*$", re.MULTILINE)


def words(text: str) -> list[str]:
    """Runs of letters, digits and underscores, case folded."""
    return _WORD.findall(text.casefold())


def normalised(text: str) -> str:
    """What two exact duplicates share: NFKC, case folded, white space joined."""
    plain = text if text.isascii() else unicodedata.normalize("NFKC", text)
    return " ".join(plain.casefold().split())


def prose(text: str) -> str:
    """The sentences of a page: without code, headings, names with dots or underscores, addresses.

    Identifiers are English-like in any language's documentation; they would outvote its sentences.
    """
    text = _INLINE_CODE.sub(" ", without_fences(text))
    return _NAME_LIKE.sub(" ", _HEADING.sub(" ", text))
