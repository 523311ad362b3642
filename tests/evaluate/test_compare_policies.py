from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from components.core.errors import ConfigError
from components.core.stats.figures import Figure, read_report, read_report_content
from components.core.stats.report_items import read_items
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.evaluate.compare_policies import CompareConfig, compare_policies
from tests.evaluate.speakers import seal_speaker, seal_tokenizer

NAMES = ["load", "dump", "walk", "join", "split", "merge", "count", "sort"]
CONFIG = CompareConfig(max_new=24, batch=4, questions=8)


def question(name: str) -> str:
    return f"What is `kit.{name}`?"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare") / "store"


@pytest.fixture(scope="module")
def tokenizer(root: Path) -> Tokenizer:
    return seal_tokenizer(root, [question(name) + " Walks and sorts." for name in NAMES], 330)


@pytest.fixture(scope="module")
def instructions(root: Path) -> Instructions:
    work = Workdir.temporary(root)
    rows = [
        {
            "id": f"page{index % 4}",
            "kind": ("describe", "module")[index % 2],
            "subject": f"kit.{name}",
            "question": question(name),
            "answer": f"The `{name}` helper is good.",
        }
        for index, name in enumerate(NAMES)
    ]
    write_shard(work.folder / "heldout.parquet", pa.Table.from_pylist(rows))
    return work.seal(Instructions)


def speaker(root: Path, tokenizer: Tokenizer, answer: str, vocabulary: int = 0) -> Checkpoint:
    """A model that gives about the same answer to everything; ``{}`` is the name asked about."""
    turns = [(question(name), answer.format(name)) for name in NAMES]
    return seal_speaker(root, tokenizer, turns, steps=40, vocabulary=vocabulary)


@pytest.fixture(scope="module")
def good(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "The `{}` helper is good.")


@pytest.fixture(scope="module")
def bad(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    return speaker(root, tokenizer, "of | of | of | of")


def compare(root, policy, baseline, instructions, tokenizer, **fields):
    config = CONFIG.model_copy(update=fields)
    work = Workdir.temporary(root)
    report = compare_policies(config, policy, baseline, instructions, tokenizer, work)
    return report, root / report.name


def contains_zero(figure: Figure) -> bool:
    return figure.low <= 0 <= figure.high


def test_a_better_policy_wins_with_its_interval_above_zero(
    root, good, bad, instructions, tokenizer
):
    report, folder = compare(root, good, bad, instructions, tokenizer)
    figures = read_report(folder)
    assert figures["difference"].low > 0.2
    assert figures["win_rate"].low > 0.9
    assert figures["difference_plain"].low > 0
    assert figures["difference_private"].value == 0
    assert figures["kl"].low > 0
    assert figures["difference"].n == 4  # pages, not questions
    gap = figures["policy_reward"].value - figures["baseline_reward"].value
    assert figures["difference"].value == pytest.approx(gap)
    assert report.stats["difference"] == figures["difference"].value


def test_the_order_of_the_two_turns_the_sign(root, good, bad, instructions, tokenizer):
    there = read_report(compare(root, good, bad, instructions, tokenizer)[1])
    back = read_report(compare(root, bad, good, instructions, tokenizer)[1])
    assert back["difference"].value == pytest.approx(-there["difference"].value)
    assert back["win_rate"].value == pytest.approx(1 - there["win_rate"].value)


def test_identical_policies_differ_by_nothing(root, good, instructions, tokenizer):
    first, folder = compare(root, good, good, instructions, tokenizer)
    figures = read_report(folder)
    assert figures["win_rate"].value == 0.5
    assert all(contains_zero(f) for name, f in figures.items() if name.startswith("difference"))
    assert contains_zero(figures["kl"])
    assert first.digest == compare(root, good, good, instructions, tokenizer)[0].digest


def test_the_report_shows_answers_and_kinds(root, good, bad, instructions, tokenizer):
    extra = read_report_content(compare(root, good, bad, instructions, tokenizer, examples=3)[1])
    assert len(extra["examples"]) == 3
    shown = extra["examples"][0]
    assert shown["reference"].endswith("helper is good.")
    assert shown["policy_reward"] > shown["baseline_reward"]
    assert sum(kind["questions"] for kind in extra["kinds"].values()) == 8


def test_items_are_the_questions_and_name_how_they_were_asked(
    root, good, bad, instructions, tokenizer
):
    folders = [
        compare(root, *pair, instructions, tokenizer, **fields)[1]
        for pair, fields in (
            ((good, bad), {}),
            ((bad, good), {}),
            ((good, bad), {"temperature": 0.5}),
        )
    ]
    first, second, cooler = (read_items(folder) for folder in folders)
    for name, values in first.values.items():
        figure = read_report(folders[0])[name]
        assert figure.value == pytest.approx(values.sum() / first.weights.sum())
    assert sorted(set(first.pages)) == ["page0", "page1", "page2", "page3"]
    assert list(first.keys) == list(second.keys)
    assert not set(first.keys) & set(cooler.keys)


def test_models_of_two_tokenizers_are_refused(root, good, instructions, tokenizer):
    other = speaker(root, tokenizer, "Hm.", vocabulary=400)
    with pytest.raises(
        ConfigError, match=r"policy .*vocabulary of 400.* are of different tokenizers"
    ):
        compare(root, other, good, instructions, tokenizer)


def test_no_question_that_fits_is_said_and_claims_nothing(root, good, instructions, tokenizer):
    report, folder = compare(root, good, good, instructions, tokenizer, max_new=90)
    assert report.note == "no held-out question"
    difference = read_report(folder)["difference"]
    assert (difference.low, difference.high, difference.n) == (-1.0, 1.0, 0)


def test_a_judge_that_fails_on_some_sets_them_aside(
    root, good, bad, instructions, tokenizer, monkeypatch
):
    check = type(CONFIG.constitution.principles[0].check)
    score = check.score

    def breaks(self, case):
        if "kit.load" in case.question:
            raise ZeroDivisionError("no words")
        return score(self, case)

    monkeypatch.setattr(check, "score", breaks)
    report, folder = compare(root, good, bad, instructions, tokenizer)
    assert report.stats["set_aside_judge_failed"] == 1
    assert len(read_items(folder).keys) == 7
    monkeypatch.setattr(check, "score", lambda self, case: float("nan"))
    report, folder = compare(root, good, bad, instructions, tokenizer)
    assert report.note == "the judge failed on all 8 questions"
    assert read_report(folder)["policy_reward"].high == 1.0


def test_what_could_be_detected_falls_with_the_spread(root, good, bad, instructions, tokenizer):
    figures = read_report(compare(root, good, bad, instructions, tokenizer)[1])
    assert 0 < figures["detectable"].value < figures["difference"].value


def test_of_a_model_beside_itself_nothing_is_said_to_be_detectable(
    root, good, bad, instructions, tokenizer
):
    same, folder = compare(root, good, good, instructions, tokenizer)
    assert "detectable" not in read_report(folder)
    assert same.stats["models"] == 1
    assert compare(root, good, bad, instructions, tokenizer)[0].stats["models"] == 2
