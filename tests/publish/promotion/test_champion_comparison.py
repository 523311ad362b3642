"""Noise does not promote, and what is worse is refused: by pairs, and where there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from components.core.errors import ConfigError
from components.core.stats.figures import Figure, mean_interval, ratio_interval
from components.core.stats.paired_difference import expanded_tail, pair_items
from components.core.stats.report_items import ReportItems, item_keys
from components.publish.promotion.champion_comparison import compare_with_champion
from components.publish.promotion.gates import Comparison, GateVerdict
from components.publish.registry.version_figures import VersionFigures

FIGURE = "choice.accuracy"
NO_WORSE = Comparison(figure=FIGURE, better="higher")
BETTER = Comparison(figure=FIGURE, better="higher", margin=0.0)


@dataclass(frozen=True)
class Exam:
    """Questions on pages; pages and questions are easy or hard alike for every model."""

    pages: int = 20
    questions: int = 10
    seed: int = 0

    def sat_by(
        self, skill: float, noise: int, *, asked: str = "q", skip: int = 0
    ) -> VersionFigures:
        """A model of a skill: its luck is of the page and of the question."""
        common, own = np.random.default_rng(self.seed), np.random.default_rng([self.seed, noise])
        shape = (self.pages, self.questions)
        hard = common.normal(0, 0.3, (self.pages, 1)) + common.normal(0, 0.3, shape)
        luck = own.normal(0, 0.05, (self.pages, 1)) + own.normal(0, 0.2, shape)
        scores = (skill + hard + luck)[skip:]
        pages = [f"page{n}" for n in range(skip, self.pages) for _ in range(self.questions)]
        keys = item_keys([[asked, page, n] for n, page in enumerate(pages, skip * self.questions)])
        flat = scores.ravel()
        items = ReportItems(keys, pages, np.ones(len(keys)), {"accuracy": flat})
        figure = ratio_interval(scores.sum(1), [self.questions] * len(scores), name="accuracy")
        return VersionFigures({FIGURE: figure}, {"choice": items})


def one(
    comparison: Comparison, challenger: VersionFigures, champion: VersionFigures
) -> GateVerdict:
    (verdict,) = compare_with_champion([comparison], challenger, champion)
    return verdict


@pytest.mark.parametrize("pages", [8, 24])
def test_two_equal_models_with_different_noise_do_not_pass_for_better(pages: int) -> None:
    rounds = 120
    found = [
        [one(c, exam.sat_by(0.5, 1), exam.sat_by(0.5, 2)) for c in (BETTER, NO_WORSE)]
        for exam in (Exam(pages=pages, seed=seed) for seed in range(rounds))
    ]
    assert all(v.rule.startswith("paired") for pair in found for v in pair)
    better = sum(pair[0].passes for pair in found)
    refused = sum(not pair[1].passes for pair in found)
    # 2.5 % of each by chance; the bounds are what 120 rounds exceed once in a thousand times.
    assert better <= 9
    assert refused <= 9
    by_value = sum(pair[0].value > 0 for pair in found)
    assert by_value > 40  # the plain difference would have promoted about every second


def test_a_worse_one_is_refused_and_a_better_one_passes() -> None:
    for seed in range(30):
        exam = Exam(seed=seed)
        champion = exam.sat_by(0.5, 1)
        worse, better = exam.sat_by(0.35, 2), exam.sat_by(0.65, 2)
        assert not one(NO_WORSE, worse, champion).passes
        assert not one(BETTER, worse, champion).passes
        assert one(NO_WORSE, better, champion).passes
        assert one(BETTER, better, champion).passes
        assert not one(BETTER.model_copy(update={"margin": 0.3}), better, champion).passes


def test_pairs_see_what_two_intervals_beside_each_other_do_not() -> None:
    exam = Exam()
    worse, champion = exam.sat_by(0.38, 1), exam.sat_by(0.5, 2)
    assert worse.figures[FIGURE].high > champion.figures[FIGURE].low
    verdict = one(NO_WORSE, worse, champion)
    assert not verdict.passes
    assert (verdict.pairs, verdict.pages, verdict.n) == (200, 20, 200)
    assert verdict.high < 0 < champion.figures[FIGURE].low
    assert str(verdict).startswith(
        "gate no worse than the champion in choice.accuracy: high end of choice.accuracy is -0.0"
    )


def test_lower_is_better_turns_every_sign() -> None:
    exam = Exam()
    high, low = exam.sat_by(0.6, 1), exam.sat_by(0.5, 2)
    lower = Comparison(figure=FIGURE, better="lower")
    assert one(lower, low, high).passes
    assert not one(lower, high, low).passes
    with_margin = lower.model_copy(update={"margin": 0.02})
    assert one(with_margin, low, high).passes
    assert one(with_margin, low, high).bound == -0.02
    assert not one(with_margin, high, low).passes


def test_a_model_beside_itself_is_no_worse_and_not_better() -> None:
    model = Exam().sat_by(0.5, 1)
    assert one(NO_WORSE, model, model).passes
    verdict = one(BETTER, model, model)
    assert (verdict.value, verdict.low, verdict.high, verdict.passes) == (0, 0, 0, False)


def test_only_shared_items_are_paired() -> None:
    exam = Exam()
    champion = exam.sat_by(0.5, 1, skip=8)
    verdict = one(NO_WORSE, exam.sat_by(0.5, 2), champion)
    assert (verdict.pairs, verdict.pages) == (120, 12)
    other = VersionFigures(champion.figures, {"choice": weighing(champion.items["choice"], 2.0)})
    assert one(NO_WORSE, exam.sat_by(0.5, 2), other).pairs == 0


def weighing(items: ReportItems, factor: float) -> ReportItems:
    return ReportItems(items.keys, items.pages, items.weights * factor, items.values)


def test_weights_count_as_bytes_do() -> None:
    keys, pages = ["a", "b"], ["p", "q"]
    weights = np.array([1.0, 3.0])
    ours = ReportItems(keys, pages, weights, {"bits": np.array([4.0, 6.0])})
    theirs = ReportItems(keys[::-1], pages[::-1], weights[::-1], {"bits": np.array([3.0, 2.0])})
    difference = pair_items("bits", ours, theirs).difference("bits")
    assert difference.value == pytest.approx((4 + 6) / 4 - (3 + 2) / 4)
    assert difference.low == pytest.approx(1.0)
    assert difference.high == pytest.approx(2.0)


def figure(low: float, high: float) -> VersionFigures:
    return VersionFigures(
        {FIGURE: Figure(name="accuracy", value=(low + high) / 2, low=low, high=high)}
    )


@pytest.mark.parametrize(
    ("better", "ours", "theirs", "no_worse", "beyond"),
    [
        ("higher", (0.4, 0.5), (0.51, 0.6), False, False),
        ("higher", (0.4, 0.5), (0.5, 0.6), True, False),
        ("higher", (0.7, 0.8), (0.5, 0.6), True, True),
        ("higher", (0.62, 0.8), (0.5, 0.6), True, False),
        ("lower", (1.1, 1.2), (1.0, 1.05), False, False),
        ("lower", (1.0, 1.2), (1.0, 1.05), True, False),
        ("lower", (0.7, 0.9), (1.0, 1.05), True, True),
    ],
)
def test_without_enough_pairs_the_two_intervals_decide_and_the_record_says_so(
    better: Any,
    ours: tuple[float, float],
    theirs: tuple[float, float],
    no_worse: bool,
    beyond: bool,
) -> None:
    plain = Comparison(figure=FIGURE, better=better)
    verdict = one(plain, figure(*ours), figure(*theirs))
    assert verdict.passes is no_worse
    assert verdict.rule == ("unpaired: 0 items of 0 pages are shared, fewer than 30 of 8")
    assert (verdict.pairs, verdict.pages) == (0, 0)
    assert one(
        plain.model_copy(update={"margin": 0.05}), figure(*ours), figure(*theirs)
    ).passes is (beyond)


@pytest.mark.parametrize("exam", [Exam(pages=7), Exam(pages=10, questions=2)])
def test_few_pages_or_few_questions_are_too_few(exam: Exam) -> None:
    verdict = one(BETTER, exam.sat_by(0.5, 1), exam.sat_by(0.5, 2))
    assert verdict.rule.startswith(f"unpaired: {exam.pages * exam.questions} items")
    assert not verdict.passes


def test_a_champion_that_was_never_measured_so_holds_nobody_back() -> None:
    verdict = one(BETTER, figure(0.4, 0.5), VersionFigures({}))
    assert verdict.passes
    assert (verdict.bound, verdict.rule) == (None, "not compared")
    with pytest.raises(ConfigError, match=r"better than the champion in choice.accuracy: .* not"):
        compare_with_champion([BETTER], VersionFigures({}), figure(0.4, 0.5))


@pytest.mark.parametrize(("pages", "student"), [(8, 2.3646), (10, 2.2622), (57, 2.0032)])
def test_the_quantiles_are_those_of_student(pages: int, student: float) -> None:
    from statistics import NormalDist

    reach = -NormalDist().inv_cdf(expanded_tail(pages))
    assert reach == pytest.approx(student * (pages / (pages - 1)) ** 0.5, rel=2e-3)


def test_few_pages_are_covered_where_plain_percentiles_are_not() -> None:
    draw = np.random.default_rng(1)
    covered = {"plain": 0, "expanded": 0}
    for _ in range(300):
        values = draw.normal(size=8)
        items = ReportItems(list("abcdefgh"), list("abcdefgh"), np.ones(8), {"x": values})
        zero = ReportItems(items.keys, items.pages, items.weights, {"x": np.zeros(8)})
        difference = pair_items("x", items, zero).difference("x")
        covered["expanded"] += difference.low <= 0 <= difference.high
        plain = mean_interval(values)
        covered["plain"] += plain.low <= 0 <= plain.high
    assert covered["plain"] < 0.92 * 300
    assert covered["expanded"] > 0.925 * 300
