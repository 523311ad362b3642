"""Frames as pandas writes them in JSON, with indexes of addresses and names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.collect.files.reading import read_bytes

ORIENTATIONS = ["columns", "index", "split", "table", "records", "values"]
TEXTS = ["first text of the frame", "second text", "third text, which is longer"]
ADDRESSES = [f"https://x.example/{number}" for number in range(3)]


def read_texts(tmp_path: Path, content: str, **fields: Any) -> dict[str, str]:
    return read_bytes(tmp_path, "x.json", content, **fields).texts


@pytest.mark.parametrize("orient", ORIENTATIONS)
@pytest.mark.parametrize("index", ["addresses", "words", "numbers", "dates", "pairs"])
@pytest.mark.parametrize("columns", [["text"], ["n", "text"], ["text", "title", "tags"]])
def test_every_orientation_with_every_index(
    tmp_path: Path, orient: Any, index: str, columns: list[str]
) -> None:
    keys: dict[str, Any] = {
        "addresses": ADDRESSES,
        "words": ["one", "two", "three"],
        "numbers": [7, 12, 3],
        "dates": pd.date_range("2024-01-01", periods=3).astype(str),
        "pairs": pd.MultiIndex.from_tuples([("a", 1), ("a", 2), ("b", 1)]),
    }
    data = {"text": TEXTS, "n": [1, 2, 3], "title": ["A", "B", "C"], "tags": [["x"], [], ["y"]]}
    frame = pd.DataFrame({name: data[name] for name in columns}, index=keys[index])
    if orient == "table" and index == "pairs":
        frame.index.names = ["k", "l"]
    texts = read_texts(tmp_path, frame.to_json(orient=orient))
    assert list(texts.values()) == TEXTS
    if index == "addresses" and orient not in ("records", "values"):
        assert list(texts) == ADDRESSES


def test_values_alone_are_told_apart_by_what_they_hold(tmp_path: Path) -> None:
    rows = [
        [n, url, "title", text] for n, url, text in zip(range(3), ADDRESSES, TEXTS, strict=True)
    ]
    assert read_texts(tmp_path, json.dumps(rows)) == dict(zip(ADDRESSES, TEXTS, strict=True))
    named = read_texts(tmp_path, json.dumps(rows), text_field="2", url_field="1")
    assert list(named.values()) == ["title"] * 3
    mixed = read_bytes(tmp_path, "y.json", json.dumps([*rows, 5, [1, None, None, None]]))
    assert list(mixed.texts.values()) == TEXTS
    assert mixed.reasons["file:///in/y.json#4"] == "no object"
    assert mixed.reasons["file:///in/y.json#5"] == "an empty page"
    numbers = read_bytes(tmp_path, "z.json", "[[1, 2], [3, 4]]")
    assert set(numbers.reasons) == {"file:///in/z.json#1", "file:///in/z.json#2"}


def test_objects_that_are_no_tables_stay_objects(tmp_path: Path) -> None:
    for row in (
        {"text": {"value": "words", "format": "plain"}},
        {"text": {"content": "words"}, "meta": {"content": 1}},
        {"content": {"rendered": "x", "text": "words"}, "title": {"rendered": "x", "text": "t"}},
    ):
        assert list(read_texts(tmp_path, json.dumps(row)).values()) == ["words"]
    series = pd.Series(TEXTS).to_json()
    assert list(read_texts(tmp_path, series).values()) == TEXTS
