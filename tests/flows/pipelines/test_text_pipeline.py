"""The whole chain on real pages: once, again, with a changed field, with a changed helper."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import AS_OF, ROOT, CommandLine, digests, states

Ran = tuple[CommandLine, dict[str, Any]]
SCORERS = (
    "quality_judge",
    "toxicity_judge",
    "language_model",
    "language",
    "quality",
    "judged_quality",
    "toxicity",
    "pii",
    "duplicates",
    "passages",
    "boilerplate",
    "site_lines",
    "contamination",
    "licence",
)
ACTIONS = {"change", "dataset", "registry", "package", "smoke", "promote", "dossier"}


def test_every_stage_did_its_work(nano: Ran) -> None:
    _, answer = nano
    assert set(states(answer).values()) == {"Completed"}
    stats = {step["stage"]: step["stats"] for step in answer["steps"]}
    assert stats["extract"]["documents"] > 20
    assert stats["select"]["kept"] > 20
    assert stats["bundle"]["forms"] == 4


def test_a_second_run_is_cached_and_unchanged(nano: Ran) -> None:
    modelmill, first = nano
    again = modelmill.answer("run", "nano", "--set", AS_OF)
    for stage, state in states(again).items():
        assert state == ("Unchanged" if stage in ACTIONS else "Cached"), stage
    assert digests(again) == {s: d for s, d in digests(first).items() if s not in ACTIONS}
    assert [v["version"] for v in modelmill.answer("models")["models"]] == ["1"]


def test_the_plan_of_a_finished_run_has_nothing_to_do(nano: Ran) -> None:
    modelmill, _ = nano
    told = modelmill.answer("plan", "nano", "--set", AS_OF)
    assert {p["name"] for p in told["plan"] if p["unchanged"]} == ACTIONS
    assert told["totals"]["at_most"]["steps"] == 0


def test_the_plan_says_where_a_run_would_end(nano: Ran) -> None:
    modelmill, _ = nano
    told = modelmill.answer("plan", "nano", "--set", AS_OF, "--set", "change.least_change=0.5")
    because = {p["name"]: p["because"] for p in told["plan"]}
    assert because["change"][0].startswith("the run would end here: ")


def test_a_threshold_of_select_runs_select_and_what_follows(nano: Ran) -> None:
    modelmill, _ = nano
    changed = ("--set", AS_OF, "--set", "select.quality.min_words=60")
    plan = {p["name"]: p for p in modelmill.answer("plan", "nano", *changed)["plan"]}
    before = ("scrape", "extract", "classifier", *SCORERS)
    assert {plan[stage]["state"] for stage in before} == {"cached"}
    assert plan["select"]["state"] == "would run"
    assert plan["select"]["because"][0].startswith("quality.min_words")
    assert plan["tokenizer"]["state"].startswith("runs unless")
    ran = modelmill.answer("run", "nano", "--plain", *changed, "--until", "tokenizer")
    assert {states(ran)[stage] for stage in before} == {"Cached"}
    assert {states(ran)[stage] for stage in ("select", "check", "tokenizer")} == {"Completed"}


@pytest.fixture
def copied(nano: Ran, tmp_path: Path) -> CommandLine:
    """A checkout of our own to edit, on the workspace of the run."""
    for name in ("components", "models", "serving", "flows", "data"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("prefect.yaml", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return CommandLine(nano[0].home, tmp_path)


def test_an_edited_comment_runs_nothing(copied: CommandLine) -> None:
    helper = copied.checkout / "components" / "text" / "document_statistics.py"
    helper.write_text("# a comment\n" + helper.read_text() + "\n# another\n")
    plan = copied.answer("plan", "nano", "--set", AS_OF)["plan"]
    assert {p["state"] for p in plan if p["name"] not in ACTIONS} == {"cached"}


def test_an_edited_helper_runs_the_scorer_that_calls_it(copied: CommandLine) -> None:
    helper = copied.checkout / "components" / "text" / "licence_signs.py"
    helper.write_text(helper.read_text() + "\n\nEDITED = 1\n")
    plan = {p["name"]: p for p in copied.answer("plan", "nano", "--set", AS_OF)["plan"]}
    assert plan["licence"]["because"] == ["code of components.text.licence_signs"]
    assert {plan[s]["state"] for s in ("scrape", "extract", "language", "pii")} == {"cached"}
    ran = copied.answer("run", "nano", "--plain", "--set", AS_OF, "--until", "select")
    assert states(ran)["licence"] == "Completed"
    assert states(ran)["language"] == "Cached"
    # It came out equal, so nothing follows.
    assert states(ran)["select"] == "Cached"


def test_an_edited_rule_runs_select_and_no_scorer(copied: CommandLine) -> None:
    rule = copied.checkout / "components" / "clean" / "pii" / "rule.py"
    rule.write_text(rule.read_text() + "\n\nEDITED = 1\n")
    plan = {p["name"]: p for p in copied.answer("plan", "nano", "--set", AS_OF)["plan"]}
    assert {plan[stage]["state"] for stage in ("extract", *SCORERS)} == {"cached"}
    assert plan["select"]["because"] == ["code of components.clean.pii.rule"]
    assert plan["tokenizer"]["state"].startswith("runs unless")


def test_show_lists_runs_artifacts_and_models(nano: Ran) -> None:
    modelmill, answer = nano
    shown = modelmill.answer("show")
    assert answer["run"] in [run["run"] for run in shown["runs"]]
    assert {a["format"] for a in shown["artifacts"]} >= {"corpus/1", "checkpoint/1", "bundle/1"}
    assert shown["models"][0]["aliases"] == ["champion"]
    one = modelmill.answer("show", shown["artifacts"][0]["key"][:16])
    assert Path(one["folder"]).is_dir()
    assert modelmill.answer("show", answer["run"])["state"] == "completed"
    assert "runs" in modelmill("show").stdout
    assert modelmill("show", "nonsense").returncode == 2


def test_one_stage_on_own_files(nano: Ran, tmp_path: Path) -> None:
    modelmill, answer = nano
    corpus = next(s["artifact"] for s in answer["steps"] if s["stage"] == "select")
    output = tmp_path / "tokenizer"
    call = ("stage", "tokenizer", "--input", f"corpus={modelmill.home / 'store' / corpus}")
    result = modelmill.answer(*call, "--output", str(output), "--set", "vocabulary=600")
    assert result["stats"]["vocabulary"] == 600
    assert (output / "tokenizer.json").is_file()
    again = modelmill(*call, "--output", str(output))
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_failing_stage_leaves_no_output(nano: Ran, tmp_path: Path) -> None:
    modelmill, _ = nano
    empty = tmp_path / "empty"
    empty.mkdir()
    call = ("stage", "tokenizer", "--input", str(empty), "--output", str(tmp_path / "out"))
    assert modelmill(*call).returncode == 2
    (empty / "00000.parquet").write_text("no Parquet")
    done = modelmill(*call)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
