"""A run ends with questions, the model's answers and the documentation's, honestly chosen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.core.errors import DataError
from components.core.stats.figures import REPORT_FILE, Figure, write_report
from components.core.store.artifact import Report
from components.core.store.workdir import Workdir
from flows.cli.views.workspace_view import describe_run_or_artifact
from flows.runner.run_outcome import RunOutcome
from flows.runner.runner import CACHED, StepResult
from flows.runner.sample_answers import MOST_CHARACTERS, read_answers
from tests.workspace import Hand


def example(group: str, answer: str, exact: bool, number: int = 1) -> dict[str, Any]:
    return {
        "group": group,
        "kind": "module",
        "question": f"Which module holds `{group}_{number}`?",
        "reference": f"`{group}_{number}` is in the module `email.policy`.",
        "answer": answer,
        "exact": exact,
    }


EXAMPLES = [
    example("trained", "`trained_1` is in the module `email.policy`.", True),
    example("trained", "it is [red]in[/red] \x1b[31mcolour\x1b[0m\nand [/close]", False, 2),
    example("heldout", "", False),
    example("heldout", "long " * 200, False, 2),
]
SHARES = [
    Figure(name="trained", value=0.702, low=0.65, high=0.751, n=200),
    Figure(name="trained_modules", value=0.9, low=0.8, high=1.0, n=100),
    Figure(name="heldout", value=0.031, low=0.012, high=0.064, n=80),
]


def sealed(
    store: Path, examples: list[dict[str, Any]], figures: list[Figure], **extra: Any
) -> Report:
    work = Workdir.temporary(store, "components.evaluate.exact_facts.evaluate_facts")
    write_report(work.folder, figures, examples=examples, **extra)
    return work.seal(Report, stats={"trained": 0.702})


def outcome(home: Path, report: Report | None) -> RunOutcome:
    result = [] if report is None else [StepResult("facts", CACHED, 0.1, report)]
    return RunOutcome("run-1", home, "tiny", results=result)


def shown(outcome: RunOutcome) -> str:
    console = Console(file=io.StringIO(), width=80)
    outcome.show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_cached_run_shows_answers_beside_the_reference_in_80_columns(tmp_path: Path) -> None:
    report = sealed(tmp_path / "store", EXAMPLES, SHARES)
    told = outcome(tmp_path, report)
    text = shown(told)
    heldout, trained = text.index("answers, held-out pages"), text.index("answers, trained pages")
    assert heldout < trained
    assert "✓ question      Which module holds `trained_1`?" in text
    assert "  documentation `heldout_1` is in the module `email.policy`." in text
    assert "  model         (nothing)" in text
    assert (
        "answered exactly: held-out pages 3.1 % [1.2, 6.4]; trained pages 70.2 % [65.0, 75.1]"
        in text
    )
    tables = text[heldout : text.index("answered exactly")].splitlines()
    assert max(map(len, tables)) <= 80
    assert told.as_json()["answers"] == EXAMPLES


def test_an_answer_is_no_markup_and_moves_no_cursor(tmp_path: Path) -> None:
    text = shown(outcome(tmp_path, sealed(tmp_path / "store", EXAMPLES, SHARES)))
    assert "it is [red]in[/red] �[31mcolour�[0m and [/close]" in text
    assert "\x1b" not in text
    assert "long…" in text
    assert text.count("long") <= MOST_CHARACTERS // 5 + 1


def test_without_figures_what_is_shown_is_counted(tmp_path: Path) -> None:
    text = shown(outcome(tmp_path, sealed(tmp_path / "store", EXAMPLES, [])))
    assert "answered exactly: 1 of these 4" in text


def test_a_run_that_asked_nothing_shows_nothing(tmp_path: Path) -> None:
    assert "answer" not in shown(outcome(tmp_path, None))
    assert outcome(tmp_path, None).as_json()["answers"] == []
    assert "answer" not in shown(outcome(tmp_path, sealed(tmp_path / "store", [], [])))


def test_show_tells_them_again_and_a_report_that_is_gone_is_nothing(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    report = sealed(hand.store, EXAMPLES, SHARES)
    hand.record("tiny-1", {"facts": report})
    hand.record("tiny-2", {}, named={"facts": "sealed/gone"})
    answer = describe_run_or_artifact(hand.settings, "tiny-1")
    assert answer.value["answers"] == EXAMPLES
    console = Console(file=io.StringIO(), width=80)
    answer.show(console)
    assert isinstance(console.file, io.StringIO)
    assert "answered exactly: held-out pages 3.1 %" in console.file.getvalue()
    assert describe_run_or_artifact(hand.settings, "tiny-2").value["answers"] == []


def test_a_damaged_report_is_named(tmp_path: Path) -> None:
    report = sealed(tmp_path / "store", [{"group": "trained"}], [])
    with pytest.raises(DataError, match=rf"{REPORT_FILE}: examples cannot be read"):
        read_answers(tmp_path / "store" / report.name)
