"""A page never changes sides, and two pages are enough for a split."""

from __future__ import annotations

from components.text.split import heldout_pages, is_heldout

PAGES = [f"https://docs.example/{n}" for n in range(4000)]


def test_the_share_is_kept_and_pages_stay_put() -> None:
    heldout = heldout_pages(PAGES, 0.08, seed=0)
    assert 0.06 < len(heldout) / len(PAGES) < 0.10
    assert heldout_pages(PAGES[:500], 0.08, seed=0) == heldout & set(PAGES[:500])
    assert heldout < heldout_pages(PAGES, 0.2, seed=0)
    assert heldout != heldout_pages(PAGES, 0.08, seed=1)
    assert all(is_heldout(page, 0.08, 0) for page in heldout)


def test_small_corpora() -> None:
    assert len(heldout_pages(PAGES[:2], 0.0001, seed=0)) == 1
    assert len(heldout_pages(PAGES[:4], 0.0001, seed=0)) == 1
    few = heldout_pages(PAGES[:8], 0.0001, seed=0)
    assert len(few) == 2
    assert heldout_pages(PAGES[:1], 0.0001, seed=0) == frozenset()
    assert heldout_pages(PAGES[:2], 0, seed=0) == frozenset()
