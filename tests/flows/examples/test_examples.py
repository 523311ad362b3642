"""Examples of the checkout, run as their readers would."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.flows.conftest import ROOT, CommandLine
from tests.flows.forked import run_forked

EXAMPLES = ROOT / "examples"
LIBRARY = "examples/own_pages/library.yaml"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A workspace that the examples on the library's pages share."""
    return CommandLine(tmp_path_factory.mktemp("library") / "home")


def run_script(name: str, library: CommandLine) -> list[str]:
    """Lines that an example's script prints."""
    program = f"import runpy; runpy.run_path({str(EXAMPLES / name)!r}, run_name='__main__')"
    done = run_forked([], ROOT, library.environment(), timeout=200, program=program)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_own_stage_is_cached_the_second_time(library: CommandLine) -> None:
    lines = run_script("own_stage/long_words.py", library)
    assert [line[0] for line in lines[::2]] == ["✓", "✓", "="]
    assert lines[1] == lines[5] == "7 letters: 0.100 [0.083, 0.116]"


def test_own_scorer_drops_pages_of_long_sentences(library: CommandLine) -> None:
    first, *rows = run_script("own_scorer/sentence_length.py", library)
    assert first == "kept 10 of 12 pages"
    dropped = {row.split()[0] for row in rows if row.split()[1] == "dropped"}
    assert dropped == {"catalogue.md", "opening.md"}
    assert all((float(row.split()[2]) > 16) == (row.split()[1] == "dropped") for row in rows)


@pytest.fixture
def patched(library: CommandLine, tmp_path: Path) -> CommandLine:
    """A copy of the checkout with the scorer in its pipeline."""
    for name in ("components", "models", "serving", "flows", "data", "examples", "tests"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignored)
    for name in ("prefect.yaml", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / name)
    patch = EXAMPLES / "own_scorer" / "in_the_pipeline.patch"
    subprocess.run(["git", "apply", "--verbose", patch], cwd=tmp_path, check=True)
    return CommandLine(library.home, tmp_path)


def test_own_scorer_in_the_pipeline(patched: CommandLine) -> None:
    """The commands of the README; the scorer's own test passes."""
    bound = ("--set", "select.sentence_length.max_mean_words=16")
    ran = patched.answer("run", LIBRARY, "--plain", "--until", "select", *bound)
    stats = {step["stage"]: step["stats"] for step in ran["steps"]}
    assert stats["select"]["dropped_by_sentence_length.mean_words"] == 2
    assert stats["sentence_length"]["mean_words"] > 10
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "tests/clean/test_sentence_length.py", "-q"],
        cwd=patched.checkout,
        env={**os.environ, "PYTHONPATH": str(patched.checkout)},
        capture_output=True,
        text=True,
    )
    assert tested.returncode == 0, tested.stdout


def test_contributing_shows_the_lines_of_the_patch() -> None:
    """What the guide shows of the pipeline's files is what the patch adds there."""
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    shown = guide.partition("## A scorer")[2].partition("## An action")[0]
    patch = (EXAMPLES / "own_scorer" / "in_the_pipeline.patch").read_text(encoding="utf-8")
    added = {line[1:].strip() for line in patch.splitlines() if line.startswith("+")}
    lines = [line[1:].strip() for line in shown.splitlines() if re.match(r"\+[^+]", line)]
    missing = {line for line in lines if line and line not in added and line[0] != "#"}
    assert missing == set()


def test_the_notebook_gives_the_outputs_that_it_shows(
    nano: tuple[CommandLine, dict[str, Any]],
) -> None:
    path = EXAMPLES / "notebook" / "first_look.ipynb"
    program = (
        "import json, sys; from pathlib import Path\n"
        "from tests.notebook_cells import execute_notebook\n"
        f"sys.stdout.write(json.dumps(execute_notebook(Path({str(path)!r}))))"
    )
    done = run_forked([], ROOT, nano[0].environment(), timeout=200, program=program)
    assert done.returncode == 0, done.stderr
    made, shown = json.loads(done.stdout), json.loads(path.read_text(encoding="utf-8"))
    assert [_form(cell) for cell in made["cells"]] == [_form(cell) for cell in shown["cells"]]
    assert made["cells"][-1]["outputs"][-1]["data"] == shown["cells"][-1]["outputs"][-1]["data"]


def _form(cell: dict[str, Any]) -> Any:
    """Source and kinds of output: figures differ from one machine's documentation to another's."""
    return cell["source"], [sorted(output) for output in cell.get("outputs", ())]


@pytest.mark.slow
def test_own_pages_become_a_champion(library: CommandLine) -> None:
    ran = library.answer("run", LIBRARY, "--plain")
    assert ran["steps"][-1]["stage"] == "dossier"
    (version,) = library.answer("models")["models"]
    assert (version["model"], version["aliases"]) == ("library", ["champion"])


@pytest.mark.parametrize("name", ["own_pages", "own_stage", "own_scorer", "finetune", "notebook"])
def test_every_example_has_a_readme_whose_links_lead_somewhere(name: str) -> None:
    folder = EXAMPLES / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)", text):
        assert (folder / target).exists(), target
