"""Documentation of the installed packages, as background of the benches: the same each time,
no text twice.
"""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate import planted_contamination
from benchmarks.curate.installed_documentation import drop_near_duplicates, read_docstrings
from components.core.settings import Settings

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference-data"


def shingles(text: str) -> set[tuple[str, ...]]:
    words = text.lower().split()
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def test_documentation_is_the_same_each_time_and_as_long_as_asked() -> None:
    texts = list(read_docstrings(40, 700, 3000))
    assert texts == list(read_docstrings(40, 700, 3000))
    assert len(texts) == len(set(texts)) == 40
    assert all(700 <= len(text) <= 3000 for text in texts)


def test_what_is_said_before_is_left_out() -> None:
    draw = random.Random(5)
    own = [" ".join(f"word{draw.randrange(5000)}" for _ in range(300)) for _ in range(6)]
    twin = own[0].replace(own[0].split()[7], "changed")
    half = " ".join([*own[1].split()[:150], *own[5].split()[:150]])
    assert drop_near_duplicates([*own[:5], twin, half, own[2], "few words"]) == own[:5]
    kept = drop_near_duplicates(list(read_docstrings(60, 700, 3000)))
    for one, other in combinations(map(shingles, kept), 2):
        assert len(one & other) < 0.35 * min(len(one), len(other))


@pytest.mark.slow
@pytest.mark.skipif(
    not (REFERENCE / planted_contamination.SETS).exists(), reason="no reference data"
)
def test_clean_documents_are_enough_for_the_bound(tmp_path: Path) -> None:
    setting = BenchSetting(Settings(tmp_path, REFERENCE), tmp_path, 1, lambda line: None)
    figures = {
        figure.name: figure for figure in planted_contamination.measure_contamination(setting)
    }
    false = figures["contamination: clean documents taken for contaminated, upper end"]
    assert false.value is not None
    assert (
        0 < false.value < planted_contamination.MAX_FALSE_SHARE
    )  # an upper end; a share of none would be 0
    assert all(figure.holds is not False for figure in figures.values())
