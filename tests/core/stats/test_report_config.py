"""Configs of reports: a stage writes the figures that its config declares, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from components.core.stats.figures import exact_figure, read_report
from components.core.stats.report_config import ReportConfig


class LengthConfig(ReportConfig):
    figures: ClassVar = ("mean", "*.share")


def test_declared_figures_are_written_in_their_order(tmp_path: Path) -> None:
    LengthConfig().write_report(
        tmp_path, [exact_figure("long.share", 0.5), exact_figure("mean", 3.0)]
    )
    assert list(read_report(tmp_path)) == ["long.share", "mean"]


def test_a_figure_that_is_not_declared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"LengthConfig.figures does not declare 'median'; .*mean"):
        LengthConfig().write_report(
            tmp_path, [exact_figure("mean", 3.0), exact_figure("median", 2.0)]
        )
    assert not list(tmp_path.iterdir())


def test_what_is_declared_is_no_part_of_a_stage_key() -> None:
    assert LengthConfig().key_fields() == {}
