"""A corpus that a gate would refuse after training is refused before it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.core.errors import GateFailed
from components.core.store.artifact import Corpus
from components.core.store.workdir import Workdir
from components.validate.check_corpus import check_corpus
from flows.configs.presets import PRESETS
from flows.configs.text_run import TextRun

PROSE = "The garden keeps its stones beside the river and opens its doors in the morning. "


def test_pages_that_a_gate_asks_for_are_asked_for_before_training(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    five = corpus_of([f"{PROSE * 8} Page {number}." for number in range(5)])
    check_corpus(TextRun().resolved_check, five, again())  # no gate: the suite asks for five
    with pytest.raises(
        GateFailed,
        match=r"check: 5 pages are left, at least 50 are needed "
        r"\[gate dataset would refuse .*\]: give more pages under scrape, or change promote.gates$",
    ):
        check_corpus(PRESETS["tiny"]().resolved_check, five, again())
    with pytest.raises(GateFailed, match=r"check: 1 page is left, at least 10 are needed \["):
        check_corpus(PRESETS["nano"]().resolved_check, corpus_of([PROSE * 8]), again())


@pytest.mark.parametrize(("preset", "pages"), [("nano", 10), ("tiny", 50), ("small", 50)])
def test_the_suite_of_a_preset_holds_its_gate(preset: str, pages: int) -> None:
    run = PRESETS[preset]()
    assert run.resolved_check.expectations[:-1] == run.check.expectations
    assert run.resolved_check.expectations[-1].kwargs == {"min_value": pages}
