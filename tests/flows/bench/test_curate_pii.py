"""What the bench says of personal data, on the reference data."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from components.core.settings import Settings
from flows.bench.curate import contamination, language, pii, quality
from flows.bench.curate.setting import Setting

REFERENCE = Path(__file__).resolve().parents[4] / "shared" / "reference-data"


def setting(folder: Path, reference: Path = REFERENCE) -> Setting:
    return Setting(Settings(folder, reference), folder, 1, lambda line: None)


@pytest.mark.skipif(not (REFERENCE / pii.DATA).exists(), reason=f"no reference data {pii.DATA}")
def test_nearly_every_span_is_found_and_right(tmp_path: Path) -> None:
    assert [figure.holds for figure in pii.measure(setting(tmp_path))] == [True] * 3


@pytest.mark.parametrize("part", [contamination, language, pii, quality])
def test_without_the_data_nothing_is_demanded(part: ModuleType, tmp_path: Path) -> None:
    (figure,) = part.measure(setting(tmp_path, tmp_path))
    assert (figure.value, figure.holds) == (None, None)
    assert "no reference data" in figure.note
