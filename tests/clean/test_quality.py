"""Statistics against values worked out by hand."""

from __future__ import annotations

import pyarrow as pa
import pytest

from components.clean.quality import SCHEMA, quality_of_shard
from components.text.statistics import ngram_fractions


def statistics(text: str) -> dict[str, float]:
    table = pa.table({"id": ["a"], "text": [text]})
    row: dict[str, float] = quality_of_shard(table, short_line=30).to_pylist()[0]
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


def slow_top(words: list[str], size: int) -> float:
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    counts = {gram: grams.count(gram) for gram in grams}
    again = [(n, sum(map(len, gram)) * n) for gram, n in counts.items() if n > 1]
    return max(again)[1] / sum(map(len, words)) if again else 0.0


def slow_duplicate(words: list[str], size: int) -> float:
    seen: set[tuple[str, ...]] = set()
    covered: set[int] = set()
    for i in range(len(words) - size + 1):
        gram = tuple(words[i : i + size])
        if gram in seen:
            covered.update(range(i, i + size))
        seen.add(gram)
    return sum(len(words[i]) for i in covered) / max(1, sum(map(len, words)))


def test_ngram_fractions_are_those_of_a_plain_loop() -> None:
    documents = [
        ("a bb ccc a bb ccc a bb d " * 3).split(),
        [],
        ["one"],
        [f"different{n}" for n in range(12)],
        ("x " * 40).split(),
        [f"w{n * n % 7}" for n in range(200)],
    ]
    found = ngram_fractions(documents)
    for size in (2, 3, 4):
        expected = [slow_top(words, size) for words in documents]
        assert found[f"top_{size}gram"].tolist() == pytest.approx(expected, abs=1e-5)
    for size in (5, 7, 10):
        expected = [slow_duplicate(words, size) for words in documents]
        assert found[f"duplicate_{size}gram"].tolist() == pytest.approx(expected, abs=1e-5)


def test_a_document_is_not_compared_with_its_neighbour() -> None:
    words = ["six", "words", "that", "stand", "right", "here"]
    assert ngram_fractions([words, words])["duplicate_5gram"].tolist() == [0.0, 0.0]
