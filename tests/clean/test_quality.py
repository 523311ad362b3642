"""Statistics against values worked out by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from components.clean.quality.score import SCHEMA, score_quality_shard


def statistics(text: str) -> dict[str, float]:
    table = pa.table({"id": ["a"], "text": [text]})
    row: dict[str, float] = score_quality_shard(table, short_line=30).to_pylist()[0]
    return row


def test_words_lines_and_symbols() -> None:
    text = "# The title\n\n- one item\n- and two\n\nThat is to be done with it...\n{x} 42 #tag"
    found = statistics(text)
    assert found["words"] == 19
    assert found["lines"] == 5
    assert found["bullet_lines"] == pytest.approx(2 / 5)
    assert found["ellipsis_lines"] == pytest.approx(1 / 5)
    assert found["stop_words"] == 6  # the, and, that, to, be, with
    assert found["symbol_ratio"] == pytest.approx(2 / 19, abs=1e-6)  # "..." and "#tag"
    assert found["curly_braces"] == 2
    assert found["alphabetic_words"] == pytest.approx(15 / 19, abs=1e-6)
    assert found["punctuated_lines"] == pytest.approx(1 / 5)
    assert found["short_lines"] == 1


def test_code_is_left_out_and_counted() -> None:
    found = statistics("Some words here.\n```python\nimport os\n```\nMore words.")
    assert found["words"] == 5
    assert 0.4 < found["code_share"] < 0.6


def test_repeated_lines_and_paragraphs() -> None:
    found = statistics("same line\n\nsame line\n\nother\n\nsame line")
    assert found["duplicate_lines"] == pytest.approx(0.5)
    assert found["duplicate_line_characters"] == pytest.approx(18 / 32)
    assert found["duplicate_paragraphs"] == pytest.approx(0.5)


def test_lorem_ipsum_javascript_and_beyond_ascii() -> None:
    found = statistics("Lorem ipsum dolor. Please enable JavaScript. Größe")
    assert (found["lorem_ipsum"], found["javascript"], found["sentences"]) == (1, 1, 2)
    assert found["non_ascii"] == pytest.approx(2 / 50)


def test_an_empty_page_has_finite_statistics() -> None:
    found = statistics("")
    assert {value for name, value in found.items() if name != "id"} == {0}
    assert list(found) == SCHEMA.names
