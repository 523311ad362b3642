"""Windows of a text with enough digits for a number of any kind, to search nothing else.

Patterns for numbers begin with a look behind, which costs them at every character; one cheap pass
finds the few stretches that are worth it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

Windows = Sequence[tuple[int, int]]

_RICH = re.compile(r"\d(?:[^\d\n]{0,3}\d){5,}")
"""Six digits, at most three signs between two of them."""
_MARGIN = 28
"""Characters around them: the letters of a number, and what follows it."""


def digit_windows(text: str) -> Windows:
    """Find the stretches (start, end) that may hold a number, sorted, apart."""
    windows: list[tuple[int, int]] = []
    for match in _RICH.finditer(text):
        start, end = max(0, match.start() - _MARGIN), min(len(text), match.end() + _MARGIN)
        if windows and start <= windows[-1][1]:
            windows[-1] = (windows[-1][0], end)
        else:
            windows.append((start, end))
    return windows


def find_in_windows(
    pattern: re.Pattern[str], text: str, windows: Windows
) -> Iterator[re.Match[str]]:
    """Find the matches of a pattern inside the windows.

    Args:
        pattern: pattern to search for.
        text: the whole text; look-behind sees no further than the window's start.
        windows: windows of ``digit_windows``.
    """
    for start, end in windows:
        yield from pattern.finditer(text, start, end)
