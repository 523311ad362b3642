"""Mojibake mended: UTF-8 that was once decoded in another charset, restored where ftfy is sure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ftfy import TextFixerConfig, fix_encoding
from ftfy.badness import is_bad

from components.collect.extraction.main_text import MainText

_ENCODING_ALONE = TextFixerConfig(
    unescape_html=False,
    remove_terminal_escapes=False,
    replace_lossy_sequences=False,  # a guess at what a lost byte was
    fix_c1_controls=True,
    fix_latin_ligatures=False,
    fix_character_width=False,
    uncurl_quotes=False,
    fix_line_breaks=False,
    fix_surrogates=False,
    remove_control_chars=False,
    normalization=None,
)
_LOST = "\ufffd"
"""Replacement character, which ftfy takes for a sign of mojibake, and would replace."""


def mend_mojibake(text: str) -> tuple[str, int]:
    """Mend a text line by line: (text, number of lines changed).

    ftfy's heuristic is right about sequences that no language writes. It cannot know a text about
    mojibake: a line that holds the mended characters too, as ``Ã¤ instead of ä`` does, stays.
    """
    if text.isascii() or not is_bad(text):
        return text, 0
    changed = 0
    lines = text.split("\n")
    for number, line in enumerate(lines):
        mended = _LOST.join(map(_mend_part, line.split(_LOST)))
        if mended != line and not _shows_both(line, mended):
            lines[number] = mended
            changed += 1
    return "\n".join(lines), changed


def mend_main_text(main_text: MainText) -> tuple[MainText, int]:
    """Mend all texts of a page: (the page, number of lines changed in its text)."""
    text, changed = mend_mojibake(main_text.text)
    mended = replace(
        main_text,
        title=mend_mojibake(main_text.title)[0],
        text=text,
        headings=[mend_mojibake(heading)[0] for heading in main_text.headings],
        code=[mend_mojibake(code)[0] for code in main_text.code],
        navigation=mend_mojibake(main_text.navigation)[0],
        headline=mend_mojibake(main_text.headline)[0],
    )
    return mended, changed


def _mend_part(part: str) -> str:
    if part.isascii() or not is_bad(part):
        return part
    mended = str(fix_encoding(part, _ENCODING_ALONE))
    return part if is_bad(mended) else mended  # half of it is no better


def _shows_both(line: str, mended: str) -> bool:
    """True where a character that mending brings stands in a word that it leaves as it is."""
    before, after = Counter(line.split()), Counter(mended.split())
    brought = set("".join(after - before)) - set("".join(before - after))
    unchanged = set("".join(before & after))
    return any(not character.isascii() for character in brought & unchanged)
