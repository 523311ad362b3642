"""Split of pages into training and held-out ones, and of the held-out ones into halves.

Drawn by a hash of the page's address or id alone, so a page never changes sides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

Half = Literal["choosing", "reporting"]
"""Of the held-out pages: one half chooses among candidates, the other reports on the choice."""
HALF_SEED = 1 << 21
"""Seed of the draw of halves, another than those of the held-out and the alignment pages, so that
the draws are independent."""
MIN_HALF_PAGES, MIN_HALF_PROMPTS = 8, 30
"""Below these an interval over pages says nothing (an expanded bootstrap over eight pages is the
least that held its level in the tests of the champion comparison)."""
R = TypeVar("R", bound=Mapping[str, Any])


def split_position(page: str, seed: int) -> float:
    """Uniform position of a page in [0, 1): sha256 of seed and address."""
    digest = hashlib.sha256(f"{seed}\0{page}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_heldout(page: str, share: float, seed: int) -> bool:
    """True for a page that is kept out of training.

    Args:
        page: its address, else its id.
        share: share of pages to hold out, in expectation.
        seed: fixes the draw.
    """
    return split_position(page, seed) < share


def heldout_pages(pages: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """Draw the held-out pages among ``pages``.

    Of a corpus so small that hardly any falls below ``share`` the lowest are taken: two of five
    pages or more, since a question's wrong answers come from other pages than its right one, and
    one of two, so that two pages are enough for a split.

    Args:
        pages: addresses, else ids; repeats count once.
        share: share of pages to hold out.
        seed: fixes the draw.
    """
    distinct = sorted(set(pages))
    heldout = frozenset(page for page in distinct if is_heldout(page, share, seed))
    fewest = 2 if len(distinct) >= 5 else min(len(distinct) // 2, 1)
    if len(heldout) >= fewest or share <= 0:
        return heldout
    return frozenset(sorted(distinct, key=lambda page: split_position(page, seed))[:fewest])


def page_of(row: Mapping[str, Any]) -> str:
    """The page that a row comes from: its address, which an edit of the page leaves as it is."""
    return str(row.get("url") or row["id"])


def rows_of_half(rows: Sequence[R], half: Half) -> list[R]:
    """Select the rows of one half of the held-out pages.

    Fixed by a page's address alone, so a page never changes halves. Where either half has fewer
    than ``MIN_HALF_PAGES`` pages or ``MIN_HALF_PROMPTS`` rows, nothing chooses and all rows report.
    """
    sides: dict[bool, list[R]] = {True: [], False: []}
    for row in rows:
        sides[is_heldout(page_of(row), 0.5, HALF_SEED)].append(row)
    choosing, reporting = sides[True], sides[False]
    pages = min(len({page_of(row) for row in side}) for side in sides.values())
    if pages < MIN_HALF_PAGES or min(len(choosing), len(reporting)) < MIN_HALF_PROMPTS:
        choosing, reporting = [], list(rows)
    return choosing if half == "choosing" else reporting
