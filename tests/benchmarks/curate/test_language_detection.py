"""Macro-F1 as it is defined, and the languages of the bench."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.curate import language_detection
from benchmarks.curate.udhr_lines import LANGUAGES, read_udhr_lines

REFERENCE = (
    Path(__file__).resolve().parents[4] / "shared" / "reference-data" / language_detection.DATA
)


def test_macro_f1_is_the_mean_over_the_languages_that_were_asked() -> None:
    value, note = language_detection.macro_f1(["a", "a", "b", "b"], ["a", "b", "b", "c"])
    assert value == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert note.endswith("of 4 lines")


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no reference data {language_detection.DATA}")
def test_a_hundred_languages_have_lines() -> None:
    lines = read_udhr_lines(REFERENCE)
    assert len(lines) == LANGUAGES
    assert min(map(len, lines.values())) >= 5
    assert lines["de"][0].startswith("Die Allgemeine Erklärung") or "Rechte" in " ".join(
        lines["de"]
    )
