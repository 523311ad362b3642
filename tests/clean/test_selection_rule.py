"""Editing a rule selects again and scores nothing again; a new rule is a field of the config."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

import components.clean.licence.rule as licence_rule
from components.clean.document_edits import merge_overlapping
from components.clean.licence.score import LicenceConfig, score_licence
from components.clean.quality.rule import QualityRule
from components.clean.quality.score import QualityConfig, score_quality
from components.clean.select import SelectConfig, select
from components.clean.selection_rule import BoundsRule
from components.core.action import Workspace
from components.core.errors import DataError
from components.core.settings import Settings
from components.core.store.artifact import Corpus
from components.core.store.store import Store
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer
from flows.configs.text_run import TextRun, TextSelectConfig
from flows.pipelines.text import text_pipeline
from flows.runner.plan_runner import IS_CACHED, RUNS_UNLESS_EQUAL, WOULD_RUN, PlanRunner
from flows.runner.runner import Runner, StoreRunner

Maker = Callable[..., Corpus]


def clean_corpus(runner: Runner, raw: Corpus, rules: SelectConfig) -> None:
    scores = {
        "quality": runner.step("quality", score_quality, QualityConfig(), corpus=raw),
        "licence": runner.step("licence", score_licence, LicenceConfig(), corpus=raw),
    }
    corpus = runner.step("select", select, rules, corpus=raw, scores=scores)
    runner.step("tokenizer", train_tokenizer, TokenizerConfig(vocabulary=300), corpus=corpus)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


def plan(settings: Settings, raw: Corpus, rules: SelectConfig) -> dict[str, tuple[str, list[str]]]:
    runner = PlanRunner(Store(settings.store))
    clean_corpus(runner, raw, rules)
    return {step.name: (step.state, step.explanations) for step in runner.steps}


def edited(module: Any, folder: Path, *replacement: str) -> str:
    """The path of a copy of a module's source with something replaced."""
    source = Path(inspect.getfile(module)).read_text()
    assert replacement[0] in source
    copy = folder / "edited.py"
    copy.write_text(source.replace(*replacement))
    return str(copy)


def test_an_edited_rule_selects_again_and_scores_nothing_again(
    corpus_of: Maker, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = " ".join(f"word{n}" for n in range(40))
    raw = corpus_of([f"{words} {n} and all of it under no licence." for n in range(6)])
    rules = TextSelectConfig()
    clean_corpus(StoreRunner(Store(settings.store), Workspace(settings)), raw, rules)
    assert {state for state, _ in plan(settings, raw, rules).values()} == {IS_CACHED}
    copy = edited(licence_rule, tmp_path, "at_most=0.0", "at_most=0.5")
    monkeypatch.setattr(licence_rule, "__file__", copy)
    assert plan(settings, raw, rules) == {
        "quality": (IS_CACHED, []),
        "licence": (IS_CACHED, []),
        "select": (WOULD_RUN, ["code of components.clean.licence.rule"]),
        "tokenizer": (RUNS_UNLESS_EQUAL, ["input corpus from select"]),
    }
    stricter = TextSelectConfig(quality=QualityRule(min_words=20))
    monkeypatch.undo()
    steps = plan(settings, raw, stricter)
    assert steps["quality"] == (IS_CACHED, [])
    assert steps["select"] == (WOULD_RUN, ["quality.min_words: 10 -> 20"])


def test_the_code_of_select_is_that_of_every_rule_and_of_no_scorer(tmp_path: Path) -> None:
    code = Store(tmp_path).code
    config = TextRun().select
    modules = {type(rule).__module__ for rule in config.rules}
    assert len(modules) >= 9
    parts = code.code_parts(select, config)
    assert modules <= parts.keys()
    assert not [name for name in parts if name.startswith(("flows", "components.clean.quality.s"))]
    assert not modules & code.code_parts(select, SelectConfig()).keys()
    scorers = [score_quality, score_licence]
    for scorer in scorers:
        assert not modules & code.code_parts(scorer, QualityConfig()).keys()


class EvenWordsRule(BoundsRule):
    """A rule that no module of the product knows."""

    roles = ("quality",)
    max_words: int = Field(default=3, description="words a document may hold")


class OwnSelectConfig(SelectConfig):
    short: EvenWordsRule = EvenWordsRule()


def test_a_rule_is_a_field_of_the_config(corpus_of: Maker, again: Any) -> None:
    raw = corpus_of(["one two three", "one two three four"])
    scores = {"quality": score_quality(QualityConfig(), raw, again())}
    chosen = select(OwnSelectConfig(), raw, scores, again())
    assert (chosen.stats["kept"], chosen.stats["dropped_by_quality.words"]) == (1, 1)


class LongRule(BoundsRule):
    """A rule on a column that no scorer writes."""

    roles = ("quality",)
    min_length: int = Field(default=3, description="least length")


class TitleRule(BoundsRule):
    """A rule on a column of text."""

    roles = ("quality",)
    min_id: int = Field(default=3, description="least id")


@pytest.mark.parametrize("quantiles", [False, True])
@pytest.mark.parametrize(
    ("rule", "bound", "words"),
    [
        (LongRule, "min_length", r"scores quality: hold no column 'length'; they hold id, words"),
        (TitleRule, "min_id", r"scores quality: column 'id' is of type string, and bounds need"),
    ],
)
def test_a_bound_on_what_is_no_number_is_one_line(
    rule: type[BoundsRule],
    bound: str,
    words: str,
    quantiles: bool,
    corpus_of: Maker,
    again: Any,
) -> None:
    class Config(SelectConfig):
        own: BoundsRule = rule(quantiles={bound: 0.5} if quantiles else {})

    raw = corpus_of(["one two three"])
    scores = {"quality": score_quality(QualityConfig(), raw, again())}
    with pytest.raises(DataError, match=words):
        select(Config(), raw, scores, again())


def test_the_order_of_rules_is_part_of_the_key() -> None:
    class Both(SelectConfig):
        first: EvenWordsRule = EvenWordsRule()
        second: QualityRule = QualityRule()

    class Turned(SelectConfig):
        second: QualityRule = QualityRule()
        first: EvenWordsRule = EvenWordsRule()

    assert Both().model_dump() == Turned().model_dump()
    assert Both().key_fields() != Turned().key_fields()


def test_overlapping_cuts_are_one() -> None:
    assert merge_overlapping([(5, 9), (0, 2), (8, 12), (12, 13)]) == [(0, 2), (5, 12), (12, 13)]


def test_every_score_of_the_flow_has_a_rule() -> None:
    """Else ``select`` would refuse the run, after hours of scoring."""

    run = TextRun()
    assert {role for rule in run.select.rules for role in rule.roles} == scores_of_flow(run)


def scores_of_flow(run: TextRun) -> set[str]:
    """Roles of the scores that the flow gives ``select``."""
    found: dict[str, Any] = {}

    class Looking:
        def step(self, name: str, component: Any, config: Any, *_: Any, **inputs: Any) -> Any:
            found[name] = inputs
            return name

        source = action = step

    text_pipeline(run, Looking(), lambda config, _: config)  # type: ignore[arg-type]
    return set(found["select"]["scores"])
