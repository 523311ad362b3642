"""A constitution that would fail in the middle of a run fails before it, and names the principle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.text.constitution.answer_checks import AnswerCase, LengthCheck, SentenceCheck
from components.text.constitution.constitution_trial import try_constitution
from components.text.constitution.principles import Constitution, default_constitution
from flows.configs.constitution_checks import try_constitutions
from flows.configs.presets import PRESETS
from flows.pipelines.run_stage import run_stage

FIELD = "preferences.constitution"


def constitution(check: dict[str, Any], name: str = "mine") -> Constitution:
    principle = {"name": name, "description": "d", "check": check}
    return Constitution.model_validate({"principles": [principle]})


def form(pattern: str) -> Constitution:
    return constitution({"kind": "form", "forms": [{"asked": "zzz", "avoids": pattern}]})


def test_the_house_constitution_passes_in_little_processor_time() -> None:
    began = time.process_time()
    try_constitution(default_constitution(), FIELD)
    assert time.process_time() - began < 3


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        r"(\w+\s?)+$",
        "(x|xx)+y",  # lets no signal through while it backtracks: only the kernel ends it
        "(qu|ququ)+$",  # letters that no fixed text repeats
    ],
)
def test_a_pattern_that_backtracks_without_end_is_named(pattern: str) -> None:
    with pytest.raises(ConfigError) as refused:
        try_constitution(form(pattern), FIELD)
    said = str(refused.value)
    assert said.startswith(f"{FIELD}: principle 'mine': pattern {pattern!r} takes longer than 1 s")
    assert "\n" not in said


@pytest.mark.parametrize("pattern", ["module", r"takes (no|one|\d+) parameter", "a{2,5}b?", "^$"])
def test_a_sound_pattern_is_let_through(pattern: str) -> None:
    try_constitution(form(pattern), FIELD)


@pytest.mark.parametrize(
    ("score", "says"),
    [
        (lambda self, case: 1 / len(case.answer), "ZeroDivisionError: division by zero"),
        (
            lambda self, case: min(1, int(case.answer[-1:].isdigit() and case.answer[-1])),
            "ValueError: invalid literal for int",
        ),
        (lambda self, case: float("nan"), "ValueError: a score of nan"),
        (lambda self, case: float(len(case.answer)), "ValueError: a score of .* between 0 and 1"),
    ],
)
def test_a_check_that_raises_or_scores_nonsense_is_named(
    monkeypatch: pytest.MonkeyPatch, score: Any, says: str
) -> None:
    monkeypatch.setattr(SentenceCheck, "score", score)
    expected = rf"{FIELD}: principle 'mine': its check \(sentence\) fails on a trial text.*{says}"
    with pytest.raises(ConfigError, match=expected):
        try_constitution(constitution({"kind": "sentence"}), FIELD)


def test_a_pattern_too_large_to_compile_is_no_regular_expression() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        form("a{99999999999999999999}")


def test_the_field_of_the_run_is_named_and_equal_judges_are_tried_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tries: list[AnswerCase] = []

    def count(self: LengthCheck, case: AnswerCase) -> float:
        tries.append(case)
        return 1.0

    monkeypatch.setattr(LengthCheck, "score", count)
    run = PRESETS["nano"]()
    try_constitutions(run)
    once = len(tries)
    try_constitutions(run.preferences)
    assert 0 < once == len(tries) - once
    broken = run.compare.model_copy(update={"constitution": form("(a+)+$")})
    with pytest.raises(ConfigError, match=r"^compare\.constitution: principle 'mine': pattern"):
        try_constitutions(run.model_copy(update={"compare": broken}))


def test_stage_tries_the_judge_before_it_looks_at_its_inputs(tmp_path: Path) -> None:
    here = Settings(home=tmp_path, reference_data=tmp_path)
    principle = "{name: mine, description: d, check: {kind: form, forms: [{asked: '(a|aa)+$'}]}}"
    sets = [f"constitution={{principles: [{principle}]}}"]
    with pytest.raises(ConfigError, match="principle 'mine': pattern"):
        run_stage(here, "compare", [], tmp_path / "out", sets, "nano")
    assert not (tmp_path / "store").exists()
