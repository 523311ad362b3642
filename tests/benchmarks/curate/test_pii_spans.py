"""Personal data on the reference set, and figures of parts without their data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate import language_detection, planted_contamination, quality_ranking
from benchmarks.curate.pii import pii_spans
from components.core.settings import Settings

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference-data"


def setting(folder: Path, reference: Path = REFERENCE) -> BenchSetting:
    return BenchSetting(Settings(folder, reference), folder, 1, lambda line: None)


@pytest.mark.skipif(
    not (REFERENCE / pii_spans.DATA).exists(), reason=f"no reference data {pii_spans.DATA}"
)
def test_nearly_every_span_is_found_and_right(tmp_path: Path) -> None:
    assert [figure.holds for figure in pii_spans.measure_pii(setting(tmp_path))] == [True] * 3


@pytest.mark.parametrize(
    "measure",
    [
        planted_contamination.measure_contamination,
        language_detection.measure_languages,
        pii_spans.measure_pii,
        quality_ranking.measure_quality_ranking,
    ],
)
def test_without_reference_data_a_figure_has_no_value(
    measure: Callable[[BenchSetting], list[BenchFigure]], tmp_path: Path
) -> None:
    (figure,) = measure(setting(tmp_path, tmp_path))
    assert (figure.value, figure.holds) == (None, None)
    assert "no reference data" in figure.note
