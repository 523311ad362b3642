"""Which pages are held out: fixed by a page's address alone, so a page never changes sides."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def position(page: str, seed: int) -> float:
    """Where a page lies in [0, 1), uniformly: sha256 of seed and address."""
    digest = hashlib.sha256(f"{seed}\0{page}".encode(errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def is_heldout(page: str, share: float, seed: int) -> bool:
    """Whether a page (its address, else its id) is kept out of training."""
    return position(page, seed) < share


def heldout_pages(pages: Iterable[str], share: float, seed: int) -> frozenset[str]:
    """The held-out pages among ``pages``.

    Of a corpus so small that hardly any falls below ``share`` the lowest are taken: two of five
    pages or more, since a question's wrong answers come from other pages than its right one, and
    one of two, so that two pages are enough for a split.
    """
    distinct = sorted(set(pages))
    heldout = frozenset(page for page in distinct if is_heldout(page, share, seed))
    least = 2 if len(distinct) >= 5 else min(len(distinct) // 2, 1)
    if len(heldout) >= least or share <= 0:
        return heldout
    return frozenset(sorted(distinct, key=lambda page: position(page, seed))[:least])
