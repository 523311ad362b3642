"""Rules of the house (``tests/house_rules.py``), each with the list of the places that break it."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
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


def test_each_job_is_done_in_one_room() -> None:
    places = house_rules.second_ways()
    assert not places, "\n".join(places)


def test_files_that_start_processes_exist() -> None:
    gone = [n for n in house_rules.PROCESS_STARTERS if not (house_rules.ROOT / n).is_file()]
    assert not gone, "an exception is left for a file that is gone"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("path.rename(target)", "path.rename: use publish_path or atomic_path"),
        (
            "(folder / 'a').replace(target)",
            "(folder / 'a').replace: use publish_path or atomic_path",
        ),
        ("os.replace(path, target)", "os.replace: use publish_path or atomic_path"),
        ("shutil.move(path, target)", "shutil.move: use publish_path or atomic_path"),
        ("shutil.rmtree(path)", "shutil.rmtree: use delete_path"),
        ("subprocess.run(['ls'])", "subprocess.run: use run_program or start_program"),
        ("os.system('ls')", "os.system: use run_program or start_program"),
        (
            "await asyncio.create_subprocess_exec('ls')",
            "asyncio.create_subprocess_exec: use run_program or start_program",
        ),
        ("text.replace('a', 'b')", ""),
        ("moment.replace(tzinfo=UTC)", ""),
        ("dataclasses.replace(row, name='a')", ""),
        ("write_atomically(path, content)", ""),
    ],
)
def test_a_second_way_to_do_a_thing_is_named(tmp_path: Path, line: str, message: str) -> None:
    text = f"async def change() -> None:\n    {line}\n"
    for place in ("components/clean/words.py", "components/core/io/words.py"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    lines = house_rules.second_ways(tmp_path)
    assert lines == ([f"components/clean/words.py:2: {message}"] if message else [])


CONTRACTED = {
    "components.core.io.locks": "fcntl",
    "components.publish.registry.mlflow_tables": "sqlite3",
    "components.publish.registry.mlflow_client": "mlflow",
    "components.publish.dataset.push_dataset": "dvc",
    "serving.bento.service": "bentoml",
}
"""Module that may import a package -> the package; contracts of ``pyproject.toml``."""


@pytest.mark.parametrize("package", CONTRACTED.values())
def test_contracts_see_a_package_imported_elsewhere(tmp_path: Path, package: str) -> None:
    """The contract of each package breaks where a copy of the house has one more import of it."""
    config = tomllib.loads((house_rules.ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    linter = config["tool"]["importlinter"]
    (contract,) = (c for c in linter["contracts"] if c.get("forbidden_modules") == [package])
    for module in ("components.core.planted", *CONTRACTED, *linter["root_packages"]):
        path = tmp_path.joinpath(*module.split("."))
        path = (
            path / "__init__.py" if module in linter["root_packages"] else path.with_suffix(".py")
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"import {CONTRACTED.get(module, package)}\n" if "." in module else "")
        for parent in path.relative_to(tmp_path).parents:
            (tmp_path / parent / "__init__.py").touch()
    lines = ["[importlinter]", f"root_packages = {' '.join(linter['root_packages'])}"]
    written = "\n    ".join(["", *linter["root_packages"]])
    lines[1] = f"root_packages = {written}"
    lines += ["include_external_packages = True", "[importlinter:contract:one]"]
    for key, value in {**contract, "unmatched_ignore_imports_alerting": "none"}.items():
        shown = "\n    ".join(["", *value]) if isinstance(value, list) else str(value)
        lines.append(f"{key} = {shown}")
    (tmp_path / ".importlinter").write_text("\n".join(lines) + "\n")
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(tmp_path)}
    told = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert told.returncode == 1, told.stdout + told.stderr
    assert f"components.core.planted -> {package}" in told.stdout
    for module, allowed in CONTRACTED.items():
        assert allowed != package or f"{module} -> {package}" not in told.stdout


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
