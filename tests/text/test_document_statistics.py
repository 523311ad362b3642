"""The kernel's statistics are those of plain Python, for any text."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from components.text.document_statistics import document_statistics
from tests.text.reference_statistics import reference_statistics

PIECES = [
    "the", "That", "WITH", "and", "be", "**to**", "(of)", "have,", "x", "word", "longerthaneight",
    "JavaScript", "lorem ipsum", "Lorem Ipsum", "...", "....", "…", "#", "##", "# ", "####### ", "{",
    "}", "```", "~~~~", "````", "    ```", "- ", "* ", "• ", "1. ", "12) ", "1234. ", "٣. ", ".", "!",
    '."', "。", "？", "é", "漢字", "العربية", "\U0001f600", "ß", "K", "\u2028", "\u00a0", "\x1c", "\x00",
    "\r\n", "\n", "\n\n", "\n \t\n", " ", "  ", "\t", "\u3000",
]  # fmt: skip
TEXTS = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=60).map("".join),
    st.lists(st.sampled_from(["a", "bb", "the", "c."]), max_size=80).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
)


def kernel(texts: list[str], short_line: int = 5) -> list[dict[str, float]]:
    column = pa.chunked_array([pa.array(texts, type=pa.string())])
    found = document_statistics(column, short_line)
    return [{name: float(values[i]) for name, values in found.items()} for i in range(len(texts))]


@settings(deadline=None)  # the kernel is compiled in the first example
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(["```\ncode\n```", "```\ncode", "a\n```\n\n```\nb\n", ""])
@example(["a\n\nb", "a\n \nb\n\n\n", "\n\na\nb\n\na\nb\n\n"])
def test_as_plain_python_says(texts: list[str]) -> None:
    for text, found in zip(texts, kernel(texts), strict=True):
        assert found == pytest.approx(reference_statistics(text, 5), abs=1e-6)


def test_a_long_line_and_a_long_document() -> None:
    texts = ["x" * 100_000, "four words stand here " * 10_000, "\n".join(map(str, range(20_000)))]
    for text, found in zip(texts, kernel(texts), strict=True):
        assert found == pytest.approx(reference_statistics(text, 5), abs=1e-6)


def test_a_slice_of_a_column_and_no_document_at_all() -> None:
    texts = ["one", "two three", "four five six", "seven"]
    column = pa.chunked_array([pa.array(texts[:2]), pa.array(texts[2:])])
    words = document_statistics(column.slice(1, 2), 5)["words"]
    assert words.tolist() == [2, 3]
    assert kernel([]) == []


def test_a_document_is_not_compared_with_its_neighbour() -> None:
    found = kernel(["six words that stand right here"] * 2)
    assert [row["duplicate_5gram"] for row in found] == [0, 0]
