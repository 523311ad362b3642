"""Scanning stays linear in the length of text that repeats, or that opens what is never closed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from components.clean.boilerplate.page_lines import content_lines, line_features
from components.text.licence_signs import find_licences
from components.text.markdown_sections import split_sections, strip_markup
from components.text.pii.find_pii import find_pii_spans
from components.text.word_splitting import extract_prose

LENGTH = 50_000
"""The square of it takes minutes."""
RUNS = (
    *("x", "1", "é", "文", "a.", "a-", "a:", "::", "*", "**", "*a", "#", "_", "__a", "`", "``a"),
    *("[", "[a](", "![", "<", "<a", "`a<", ":a:`", "eyJ", "://", "a@", "= '", "1-", "(c) ", "| "),
)
READERS: dict[str, Callable[[str], object]] = {
    "prose": extract_prose,
    "plain": strip_markup,
    "sections": split_sections,
    "spans": find_pii_spans,
    "licences": lambda text: list(find_licences(text)),
    "lines": lambda text: [line_features(line) for line in content_lines(text)],
}


@pytest.mark.timeout(40)
@pytest.mark.parametrize("reader", READERS)
def test_runs_without_end(reader: str) -> None:
    for run in RUNS:
        READERS[reader](run * (LENGTH // len(run)))


def test_a_name_is_left_out_whole_wherever_its_marks_are() -> None:
    assert extract_prose("see os.path and a_b, x. Then http://a.example/x_y here").split() == [
        "see",
        "and",
        "x.",
        "Then",
        "here",
    ]


def test_an_identifier_in_a_script_without_spaces_leaves_its_sentence() -> None:
    assert extract_prose("请用os.path.join连接路径。") == "请用 连接路径。"
