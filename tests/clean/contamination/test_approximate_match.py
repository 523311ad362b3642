"""Shared runs of words: located once each, over gaps, and weighed as the reference weighs them."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from components.clean.contamination.approximate_match import TextMatch, find_matches
from components.clean.contamination.ngram_index import build_index
from components.clean.contamination.text_units import split_units, unit_size, unit_spans
from components.text.kernels.shared_runs import heaviest_in_order, locate_words


def locate(text: str, window: str) -> list[int]:
    numbers = {word: number for number, word in enumerate(sorted(set(text.split())), start=1)}
    ids = np.array([numbers[word] for word in text.split()])
    window_ids = np.array([numbers.get(word, 0) for word in window.split()], dtype=np.int64)
    return [int(place) for place in locate_words(ids, window_ids, 3)]


@pytest.mark.parametrize(
    ("text", "window", "located"),
    [
        ("a b c d", "x a b c d y", [1, 2, 3, 4]),
        ("a b c d e f", "d e f x a b c", [4, 5, 6, 0, 1, 2]),
        ("a b c d e f", "a b c x y z d e f", [0, 1, 2, 6, 7, 8]),
        ("a b c d e f g", "a b x d e f y", [0, 1, -1, 3, 4, 5, -1]),
        ("a b c d e f g", "a b c x e y g", [0, 1, 2, -1, 4, -1, 6]),
        ("a b c d", "a b x x c d", [-1, -1, -1, -1]),
        ("i i i i i i", "x i i i x", [1, 2, 3, -1, -1, -1]),
        ("a b c", "", [-1, -1, -1]),
    ],
)
def test_words_are_located_in_runs(text: str, window: str, located: list[int]) -> None:
    result = locate(text, window)
    if text.startswith("i"):  # which of the equal words are located is open
        assert sorted(result) == sorted(located)
    else:
        assert result == located


def test_no_word_of_a_window_is_claimed_twice() -> None:
    draw = random.Random(4)
    for _ in range(300):
        text = " ".join(draw.choices("abc", k=draw.randrange(3, 14)))
        window = " ".join(draw.choices("abcx", k=draw.randrange(30)))
        places = [place for place in locate(text, window) if place >= 0]
        assert len(set(places)) == len(places)
        words = window.split()
        for word, place in zip(text.split(), locate(text, window), strict=True):
            assert place < 0 or words[place] == word


def test_the_heaviest_order_is_that_of_all_subsets() -> None:
    draw = random.Random(8)
    for _ in range(60):
        located = draw.sample(range(20), 8)
        weights = [draw.random() for _ in located]
        best = 0.0
        for mask in range(1 << len(located)):
            chosen = [at for at in range(len(located)) if mask >> at & 1]
            if all(located[a] < located[b] for a, b in pairwise(chosen)):
                best = max(best, sum(weights[at] for at in chosen))
        assert heaviest_in_order(np.array(located), np.array(weights)) == pytest.approx(best)


def search(texts: list[list[str]], documents: list[list[str]], span: int = 80) -> list[TextMatch]:
    weights = {word: 1.0 for text in texts for word in text}
    return find_matches(build_index(texts, weights, [span] * len(texts)), documents, 0.4)


def test_the_overlap_is_the_weight_of_what_stands_there() -> None:
    draw = random.Random(0)
    texts = [[f"w{draw.randrange(900)}" for _ in range(20)] for _ in range(300)]
    edited = ["x", *texts[7][:5], "new", *texts[7][5:12], *texts[7][14:], "y"]
    (match,) = search(texts, [["a"], edited])
    assert (match.document, match.text, match.overlap, match.information) == (1, 7, 0.9, 18)
    assert (match.form, match.longest_run, match.start, match.end) == ("edited", 7, 1, 20)


def test_parts_count_together_within_the_span_alone() -> None:
    text = [f"w{at}" for at in range(20)]
    near = [*text[:10], *["x"] * 50, *text[10:]]
    far = [*text[:6], *["x"] * 200, *text[6:12], *["x"] * 200, *text[12:]]
    whole, part = search([text], [near, far, ["x"]])
    assert (whole.document, whole.overlap, whole.form) == (0, 1.0, "interrupted")
    assert (part.document, part.overlap, part.form, part.start) == (1, 0.4, "part", 412)


def test_texts_that_share_all_ngrams_are_found_each() -> None:
    texts = [["what", "is", "the", "sum", "of", str(number)] for number in range(90)]
    matches = search(texts, [["x", *texts[41]]])
    assert max(matches, key=lambda match: match.overlap).text == 41


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Don’t STOP, x_1!", ["don", "t", "stop", "x_1"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("你好 world", ["你", "好", "world"]),
        ("cafe\u0301 STRASSE straße", ["café", "strasse", "strasse"]),
        ("กี่วัน", ["กี่", "วั", "น"]),
        ("ｶﾞス", ["ｶ", "ﾞ", "ス"]),
    ],
)
def test_units_are_words_or_signs(text: str, units: list[str]) -> None:
    assert split_units(text) == units
    assert len(unit_spans(text)) == len(units)
    assert [unit_size(unit) for unit in ("word", "好", "ตะ")] == [1, 0.5, 0.5]
