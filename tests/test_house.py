"""Rules of the house (``tests/house_rules.py``), each with the list of the places that break it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import house_rules


def test_names_of_files_and_classes_are_unique() -> None:
    repeated = house_rules.repeated_names()
    assert not repeated, "\n".join(repeated)


def test_public_names_say_what_a_value_is() -> None:
    empty = house_rules.empty_names()
    assert not empty, "\n".join(empty)


def test_few_functions_that_others_call_have_one_word_names() -> None:
    names, share = house_rules.one_word_functions()
    assert share <= house_rules.MOST_ONE_WORD, "\n".join(names)


def test_no_folder_holds_more_files_than_one_reads() -> None:
    crowded = house_rules.crowded_folders()
    assert not crowded, "\n".join(crowded)


def test_no_module_imports_itself_by_way_of_others() -> None:
    circles = house_rules.import_circles()
    assert not circles, "\n".join(circles)


def test_the_settings_alone_read_the_environment() -> None:
    names = ("settings", "environment", "endpoint_settings", "thread_settings")
    readers = {
        path.as_posix()
        for path, tree in house_rules.sources()
        if path.parts[0] != "benchmarks"  # a bench hands its whole environment to a peer's program
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {f"components/core/{name}.py" for name in names}


def test_every_folder_of_modules_is_a_package() -> None:
    folders = house_rules.folders_without_package()
    assert not folders, "\n".join(folders)


@pytest.fixture
def shown_files(tmp_path: Path) -> Path:
    """The new files that CONTRIBUTING shows, written below a root of their own."""
    text = (house_rules.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    for block in re.findall(r"```diff\n(.*?)```", text, re.DOTALL):
        for name, added in re.findall(
            r"^\+\+\+ b/(components/\S+)\n((?:^\+(?!\+).*\n)+)", block, re.M
        ):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [line.removeprefix("+") for line in added.splitlines()]
            module = [] if lines[0].startswith('"""') else ['"""A module."""\n\n']
            path.write_text("\n".join([*module, *lines]) + "\n", encoding="utf-8")
    assert len(list(tmp_path.rglob("*.py"))) >= 5
    return tmp_path


def test_what_contributing_shows_keeps_the_rules(shown_files: Path) -> None:
    rules = (house_rules.questions, house_rules.missing_args, house_rules.empty_names)
    assert [line for rule in rules for line in rule(shown_files)] == []
    config = house_rules.ROOT / "pyproject.toml"
    command = [sys.executable, "-m", "ruff", "format", "--config", config, "--diff", shown_files]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout


@pytest.mark.parametrize(
    "rule",
    [house_rules.questions, house_rules.undocumented_modules, house_rules.missing_args],
)
def test_docstrings_name_the_concept_and_the_arguments(
    rule: Callable[[], list[str]],
) -> None:
    places = rule()
    assert not places, "\n".join(places)


BROKEN = '''
kept = 1
"""Where it lies."""


class Answer:
    """An answer."""

    def between(self, low: int, high: int, step: int) -> None:
        """Numbers."""
'''


@pytest.mark.parametrize(
    ("rule", "places"),
    [
        (house_rules.questions, ["components/one/first.py:3: Where it lies."]),
        (house_rules.undocumented_modules, ["components/one/first.py:1: no docstring"]),
        (
            house_rules.missing_args,
            ["components/one/first.py:9: between(low, high, step)"],
        ),
        (house_rules.empty_names, ["components/one/first.py:2: kept"]),
        (
            house_rules.repeated_names,
            [
                "components/one/first.py:1: first stands 2 times",
                "components/two/first.py:1: first stands 2 times",
                "components/one/first.py:6: Answer stands 2 times",
                "components/two/first.py:4: Answer stands 2 times",
            ],
        ),
    ],
)
def test_a_rule_names_the_places_that_break_it(
    tmp_path: Path, rule: Callable[[Path], list[str]], places: list[str]
) -> None:
    sound = '"""A module."""\n\n\nclass Answer:\n    """One."""\n'
    for folder, text in {"one": BROKEN, "two": sound}.items():
        path = tmp_path / "components" / folder / "first.py"
        path.parent.mkdir(parents=True)
        path.write_text(text)
    assert rule(tmp_path) == places


def test_descriptions_of_fields_and_options_name_the_concept() -> None:
    asking = house_rules.asking_descriptions()
    assert not asking, "\n".join(asking)


@pytest.mark.parametrize(
    ("description", "named"),
    [
        ("how often a pair must occur to be merged", False),
        ("final decision: who has the last word", False),
        ("dtype of weights; where none is given, float32", False),
        ("Of the weights.", False),
        ("fewest occurrences of a pair that is merged", True),
        ("questions that a page gives, at most", True),
        ("share of pages on which no model is trained", True),
    ],
)
def test_a_description_names_its_concept_or_asks(
    tmp_path: Path, description: str, named: bool
) -> None:
    path = tmp_path / "components" / "answer_config.py"
    path.parent.mkdir()
    path.write_text(f"\n\nshare: float = Field(default=0.5, description={description!r})\n")
    place = f"components/answer_config.py:3: {description}"
    assert house_rules.asking_descriptions(tmp_path) == ([] if named else [place])
