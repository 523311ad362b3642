"""Keys are made as they are issued, planted where they are said to be, and counted apart."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.pii import planted_credentials
from benchmarks.curate.pii.generated_keys import ASSIGNED_KEYS, ISSUED_KEYS, LOOKALIKES
from benchmarks.curate.pii.planted_credentials import (
    KEYS_PER_KIND,
    PlantedKey,
    find_secret_spans,
    is_found,
    plant_keys,
)
from components.core.settings import Settings

PIECES = ["First line.\nSecond line, of a page.\n", "def count(words):\n    return len(words)\n"]


def planted() -> list[PlantedKey]:
    return list(plant_keys(PIECES, random.Random(3)))


def test_each_kind_is_planted_as_often_and_stands_where_it_is_said_to() -> None:
    keys = planted()
    assert Counter(one.kind for one in keys) == dict.fromkeys(
        [*ISSUED_KEYS, *ASSIGNED_KEYS], KEYS_PER_KIND
    )
    values = [one.text[one.start : one.end] for one in keys]
    assert len(set(values)) == len(values)
    assert all(value == value.strip() and len(value) >= 16 for value in values)
    assert keys == planted()


def test_each_kind_is_known() -> None:
    missed = Counter(one.kind for one in planted() if not is_found(one))
    assert all(count <= KEYS_PER_KIND // 5 for count in missed.values()), missed


def test_what_only_looks_like_a_key_is_none() -> None:
    draw = random.Random(3)
    taken = {
        kind for kind, make in LOOKALIKES.items() for _ in range(5) if find_secret_spans(make(draw))
    }
    assert taken == set()


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planted_credentials, "PIECE_COUNT", 40)
    setting = BenchSetting(Settings(tmp_path, tmp_path), tmp_path, 1, lambda line: None)
    recall, precision, alike, chosen = planted_credentials.measure_credentials(setting)
    assert (recall.holds, precision.holds, alike.holds, chosen.holds) == (True, True, True, None)
    assert recall.value != precision.value
    assert f"of {KEYS_PER_KIND * (len(ISSUED_KEYS) + len(ASSIGNED_KEYS))}" in recall.note
