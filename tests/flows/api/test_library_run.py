"""Runs, plans and models of a Python caller, beside those of the command line on one workspace."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import AS_OF, ROOT, CommandLine, digests
from tests.flows.forked import run_forked

Ran = tuple[CommandLine, dict[str, Any]]
QUESTION = "What does json.dumps do?"


def call(nano: Ran, program: str) -> Any:
    """Value of ``answer`` after a program, which finds the API as ``mm`` and the run in ``AS_OF``."""
    text = f"import json, sys, modelmill as mm\nAS_OF = [{AS_OF!r}]\n{program}\n"
    text += "sys.stdout.write('\\n' + json.dumps(answer))"
    done = run_forked([], ROOT, nano[0].environment(), timeout=300, program=text)
    assert done.returncode == 0, done.stderr
    printed, _, answer = done.stdout.rpartition("\n")
    assert printed == "", "nothing is printed unless it is asked for"
    return json.loads(answer)


@pytest.fixture(scope="module")
def told(nano: Ran) -> dict[str, Any]:
    """Facts of the run that a Python caller gets of the finished workspace."""
    facts: dict[str, Any] = call(
        nano,
        "run = mm.run('nano', AS_OF)\n"
        "answer = {'states': {n: s.state for n, s in run.stages.items()},\n"
        " 'digests': {n: a.digest for n, a in run.artifacts.items()},\n"
        " 'folder': str(run['select'].folder), 'version': run.version, 'aliases': run.aliases,\n"
        " 'figures': {n: [f.low, f.value, f.high] for n, f in run.figures.items()},\n"
        " 'answers': len(run.answers), 'text': str(run), 'name': run.name, 'ended': run.ended,\n"
        " 'lineage': [node.stage for node in run['sft'].lineage], 'shown': repr(run)}",
    )
    return facts


def test_a_run_takes_what_the_command_line_made(nano: Ran, told: dict[str, Any]) -> None:
    made = digests(nano[1])
    assert made.items() <= told["digests"].items()
    assert set(told["states"].values()) == {"Cached", "Unchanged"}
    assert Path(told["folder"], "ledger").is_dir()
    assert (told["version"], told["aliases"], told["ended"]) == ("nano/1", ["champion"], "")


def test_a_run_tells_figures_answers_and_lineage(told: dict[str, Any]) -> None:
    low, value, high = told["figures"]["loss.bits_per_byte"]
    assert 0 < low < value < high < 16
    assert told["answers"] > 0
    assert told["lineage"][:2] == ["scrape", "extract"]
    assert told["lineage"][-1] == "sft"


def test_a_run_reads_as_the_command_line_prints_it(nano: Ran, told: dict[str, Any]) -> None:
    assert "bits per byte" in told["text"]
    assert told["text"].endswith("next: modelmill serve")
    assert "46 stages" in told["shown"] or "45 stages" in told["shown"]
    assert told["name"] in [run["run"] for run in nano[0].answer("show")["runs"]]


def test_a_plan_is_that_of_the_command_line(nano: Ran) -> None:
    changed = "select.quality.min_words=60"
    planned = call(
        nano,
        f"plan = mm.plan('nano', [*AS_OF, {changed!r}])\nanswer = [plan.as_json(), str(plan)]",
    )
    same = nano[0].answer("plan", "nano", "--set", AS_OF, "--set", changed)
    assert planned[0]["plan"] == same["plan"]
    assert "select" in planned[1]
    assert "would run: " in planned[1]


@pytest.fixture(scope="module")
def asked(nano: Ran) -> dict[str, Any]:
    """Answers of the model that each kind of reference names, and the errors of those of none."""
    facts: dict[str, Any] = call(
        nano,
        "run = mm.run('nano', AS_OF)\n"
        "given = {'alias': 'nano@champion', 'version': 'nano/1', 'name': 'nano',\n"
        " 'artifact': run['keep_best'], 'digest': run['bundle'].digest[:16],\n"
        " 'key': run['keep_best'].name, 'hf': run['hf'].folder, 'bundle': str(run['bundle'].folder)}\n"
        "models = {name: mm.load(reference) for name, reference in given.items()}\n"
        f"ask = lambda m, **more: m.chat({QUESTION!r}, max_tokens=16, **more)\n"
        "model, wrong = models['alias'], {}\n"
        "for name in ('nano/7', 'nano@best', 'nono@champion', 'nothing', '/absent/folder',\n"
        "             run['select'].digest, str(run.home)):\n"
        "    try: mm.load(name)\n"
        "    except mm.ConfigError as error: wrong[name] = str(error)\n"
        "for name, more in {'hot': {'temperature': 9}, 'long': {'max_tokens': 10**6},\n"
        "                   'none': {'max_tokens': 0}}.items():\n"
        "    try: model.chat('a', **more)\n"
        "    except mm.ConfigError as error: wrong[name] = str(error)\n"
        "for name, messages in {'full': 'word ' * 9999, 'empty': [], 'text': ['a'],\n"
        "                       'role': [{'role': 'cook', 'content': 'a'}]}.items():\n"
        "    try: model.chat(messages)\n"
        "    except mm.MillError as error: wrong[name] = str(error)\n"
        "turns = [{'role': 'user', 'content': %r}]\n"
        "answer = {'greedy': {name: ask(m, temperature=0) for name, m in models.items()},\n"
        " 'seeds': [ask(model, seed=seed) for seed in (1, 1, 2)],\n"
        " 'turns': model.chat(turns, temperature=0, max_tokens=16),\n"
        " 'short': mm.chat('nano@champion', turns, temperature=0, max_tokens=16),\n"
        " 'generated': [model.generate('The ', seed=1, max_tokens=8) for _ in range(2)],\n"
        " 'model': [model.version, list(model.aliases), model.context, model.shape.layers,\n"
        "           sum(p.numel() for p in model.module.parameters()), model.tokenizer.vocabulary],\n"
        " 'made_of': [node.stage for node in model.lineage], 'wrong': wrong}" % QUESTION,
    )  # fmt: skip
    return facts


def test_every_reference_to_a_model_gives_its_answers(asked: dict[str, Any]) -> None:
    greedy = set(asked["greedy"].values())
    assert len(greedy) == 1
    assert {asked["turns"], asked["short"]} == greedy
    assert greedy != {""}


def test_a_seed_decides_on_the_answer(asked: dict[str, Any]) -> None:
    first, same, other = asked["seeds"]
    assert first == same != other
    assert len(set(asked["generated"])) == 1


def test_a_loaded_model_tells_what_it_is(asked: dict[str, Any]) -> None:
    version, aliases, context, layers, parameters, vocabulary = asked["model"]
    assert (version, aliases, context, layers) == ("nano/1", ["champion"], 512, 2)
    assert parameters > 1024 * 64
    assert vocabulary == 1024
    assert asked["made_of"][0] == "scrape"
    assert asked["made_of"][-1] == "bundle"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nano/7", "nano has no version 7; there is nano/1"),
        ("nano@best", "nano has no such alias; there is nano@champion"),
        ("nono@champion", "no such model; there is nano@champion"),
        ("nothing", "no model, digest or folder; there is nano@champion"),
        ("/absent/folder", "no model, digest or folder; there is nano@champion"),
        ("hot", "temperature: given 9: must be a number from 0 to 2"),
        ("long", "max_tokens: given 1000000: must be from 1 to "),
        ("none", "max_tokens: given 0: must be from 1 to "),
        ("full", "and the model's context 512"),
        ("empty", "messages: give a question, or a list such as"),
        ("text", "messages.0: must be a mapping with role and content"),
        ("role", "messages.0.role: must be 'user'"),
    ],
)
def test_a_wrong_reference_or_argument_is_named(
    name: str, words: str, asked: dict[str, Any]
) -> None:
    assert words in asked["wrong"][name]
    assert "\n" not in asked["wrong"][name]


def test_other_artifacts_and_folders_are_no_models(asked: dict[str, Any]) -> None:
    lines = "\n".join(asked["wrong"].values())
    assert "is of kind corpus/1, and no model" in lines
    assert "holds no model: bundle.json of a bundle, model.json of a checkpoint" in lines


SCRIPT = """
import sys
import modelmill

run = modelmill.run("nano", [{as_of!r}], until="extract", home=sys.argv[1])
print(run.stages["extract"].state, run.ended)
"""


def test_a_script_without_a_main_guard_runs_once(tmp_path: Path) -> None:
    """Workers never run the caller's program again."""
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.format(as_of=AS_OF))
    home = tmp_path / "home"
    done = subprocess.run(
        [sys.executable, str(script), str(home)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Completed stopped after extract\n"
    assert len(list((home / "runs").glob("*.json"))) == 1


def test_two_runs_at_once_and_one_in_an_event_loop_share_a_workspace(nano: Ran) -> None:
    states, names, handlers = call(
        nano,
        "import asyncio, signal\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "before = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "go = lambda: mm.run('nano', AS_OF, until='select')\n"
        "async def notebook(): return go()\n"
        "with ThreadPoolExecutor(2) as pool: runs = list(pool.map(lambda _: go(), range(2)))\n"
        "runs.append(asyncio.run(notebook()))\n"
        "after = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]\n"
        "answer = [[r.stages['select'].state for r in runs], [r.name for r in runs],\n"
        "          before == after]",
    )
    assert states == ["Cached"] * 3
    assert len(set(names)) == 3
    assert handlers


def test_a_failed_run_raises_its_error_and_is_recorded(nano: Ran) -> None:
    error, code, state = call(
        nano,
        "try: mm.run('nano', [*AS_OF, 'select.quality.min_words=100000'], until='check')\n"
        "except mm.MillError as failure: answer = [str(failure), failure.exit_code]\n"
        "from flows.runner.run_records import read_records\n"
        "from components.core.settings import load_settings\n"
        "answer.append(read_records(load_settings().runs)[0]['state'])",
    )
    assert "select" in error or "documents" in error
    assert (code, state) == (1, "failed")


def test_lines_are_shown_where_they_are_asked_for(nano: Ran) -> None:
    program = f"import modelmill; modelmill.run('nano', [{AS_OF!r}], until='extract', show=True)"
    done = run_forked([], ROOT, nano[0].environment(), timeout=200, program=program)
    assert [line.split()[1:3] for line in done.stdout.splitlines()] == [
        ["scrape", "Cached"],
        ["extract", "Cached"],
    ]
