"""Code blocks of rendered pages, compared as the benchmark compares them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.extraction import code_verbatim
from components.core.settings import Settings


def test_blocks_of_a_few_pages_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(code_verbatim, "PAGES", 3)
    monkeypatch.setattr(code_verbatim, "PACKAGES", ["click"])
    setting = BenchSetting(
        Settings(home=tmp_path, reference_data=tmp_path), tmp_path, 1, lambda line: None
    )
    (figure,) = code_verbatim.measure_code_blocks(setting)
    assert figure.holds
    assert figure.note.endswith("on 3 pages")
    assert not figure.note.startswith("0 of 0")
