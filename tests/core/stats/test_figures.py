"""Intervals cover what they should, and a report comes back as it was written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.core.stats.figures import (
    Figure,
    exact_figure,
    mean_interval,
    proportion_interval,
    ratio_interval,
    read_report,
    read_report_content,
    write_report,
)


def test_wilson_matches_its_published_values() -> None:
    figure = proportion_interval(81, 263)  # Newcombe 1998, table I: 0.2553 to 0.3662
    assert (round(figure.low, 4), round(figure.high, 4)) == (0.2553, 0.3662)
    assert figure.value == pytest.approx(81 / 263)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.2775), (10, 0.7225, 1.0)])
def test_wilson_stays_inside_at_the_ends(successes: int, low: float, high: float) -> None:
    figure = proportion_interval(successes, 10)
    assert (figure.low, figure.high) == pytest.approx((low, high), abs=1e-3)


def test_mean_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    intervals = [mean_interval(draw.normal(3, 1, 60), resamples=400) for _ in range(200)]
    covered = sum(one.low <= 3 <= one.high for one in intervals)
    assert 175 <= covered <= 199


def test_ratio_weighs_units_by_their_size() -> None:
    figure = ratio_interval([10, 300], [10, 100])
    assert figure.value == pytest.approx(310 / 110)
    assert figure.low == pytest.approx(1.0)
    assert figure.high == pytest.approx(3.0)


def test_equal_values_give_equal_figures() -> None:
    values = np.arange(50.0)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values, seed=1) != mean_interval(values)


def test_large_samples_are_drawn_in_parts() -> None:
    figure = mean_interval(np.tile([0.0, 1.0], 60_000), resamples=100)
    assert figure.n == 120_000
    assert 0.49 < figure.low < 0.5 < figure.high < 0.51


@pytest.mark.parametrize(
    "call",
    [
        lambda: mean_interval([]),
        lambda: proportion_interval(3, 0),
        lambda: proportion_interval(4, 3),
        lambda: ratio_interval([1], [0]),
    ],
)
def test_nonsense_is_refused(call: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        call()  # type: ignore[operator]


def test_a_report_comes_back(tmp_path: Path) -> None:
    figures = [proportion_interval(3, 10, name="accuracy"), exact_figure("size", 4.5, "MB")]
    write_report(tmp_path, figures, rule="pmi")
    assert read_report(tmp_path) == {"accuracy": figures[0], "size": figures[1]}
    assert read_report_content(tmp_path)["rule"] == "pmi"


def test_two_figures_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="names of their own"):
        write_report(tmp_path, [exact_figure("a", 1), exact_figure("a", 2)])


@pytest.mark.parametrize("content", ["", "[]", '{"figures": [{"name": "a"}]}', "{}"])
def test_a_damaged_report_is_one_line(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(DataError, match=r"report\.json"):
        read_report(tmp_path)


def test_a_figure_holds_no_nan() -> None:
    with pytest.raises(DataError, match="figure a: value: given nan"):
        Figure(name="a", value=float("nan"), low=0, high=0)
