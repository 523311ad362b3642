"""Altered copies are counted as found where their exact similarity reaches the product's bound."""

from __future__ import annotations

import random

from benchmarks.curate.dedup.altered_copies import _alterations, _found_share

PAGE = " ".join(f"word{n}" for n in range(200)) + "."


def test_a_copy_in_capitals_is_found_and_another_page_is_not() -> None:
    other = PAGE.replace("word", "term")
    figure = _found_share("any", [(PAGE, PAGE.upper()), (PAGE, other)])
    assert figure.value == 0.5
    assert figure.note == "of 2 pairs; median similarity 0.50"


def test_alterations_change_what_they_name() -> None:
    alterations = _alterations(random.Random(0), [PAGE])
    assert alterations["punctuation removed"](PAGE) == PAGE[:-1]
    words = alterations["10 % of words replaced"](PAGE).split()
    assert 5 <= sum(a != b for a, b in zip(words, PAGE.split(), strict=True)) <= 40
