"""Key of a function of the caller's own: what its code reaches counts, and nothing else."""

from __future__ import annotations

import importlib.util
import linecache
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from types import ModuleType

import pytest

from components.core.errors import ConfigError
from flows.api.own_code import OwnCodeIndex

NUMBERS = count()
INDEX = OwnCodeIndex()
SOURCE = '''
"""An own stage."""
import re
import numpy as np
import modelmill as mm
import beside_helper
from beside_helper import shorten
from enum import Enum
from dataclasses import dataclass
from pydantic import Field, field_validator
from modelmill import Corpus, Report, StageConfig, Workdir

ENDS = re.compile("[.!?]")
WEIGHTS = {"a": 1.0, "b": [2, 3]}
TABLE = np.arange(3)
UNUSED = 1
row = object()  # a name that the stage uses for a variable of its own


class Form(Enum):
    SHORT = "s"


@dataclass
class Bounds:
    low: int = 1

    def holds(self, value):
        return value > self.low


class CountConfig(StageConfig):
    """Its config."""

    at_least: int = Field(default=1, description="shortest")

    @field_validator("at_least")
    @classmethod
    def check(cls, value):
        return value + 0


def unused():
    return 1


def measure(text, factor=2):
    return len(ENDS.split(text)) * factor


def make(bound):
    def inner(text):
        return len(text) > bound
    return inner


is_long = make(10)
is_longer = make(20)


def count_words(config: CountConfig, corpus: Corpus, work: Workdir) -> Report:
    """Count."""
    from components.text.word_splitting import split_words
    # a comment
    for row in ["a"]:
        measure(row), is_long(row), is_longer(row), shorten(row), beside_helper.twice(row), WEIGHTS, TABLE
        [measure(inner) for inner in row], Form.SHORT, Bounds().holds(1), mm.read_shards
    return work.seal(Report)
'''
HELPER = """
import beside_deeper


def shorten(text):
    return text[: beside_deeper.MOST]


def twice(text):
    return text + text
"""
DEEPER = "MOST = 3\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Folder of the caller's program, with the modules beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("beside_", "own_program"))]:
        del sys.modules[name]


def load_program(
    folder: Path, source: str, helper: str = HELPER, deeper: str = DEEPER
) -> ModuleType:
    """The program as a new process would import it."""
    for name in [name for name in sys.modules if name.startswith("beside_")]:
        del sys.modules[name]
    (folder / "beside_helper.py").write_text(helper)
    (folder / "beside_deeper.py").write_text(deeper)
    path = folder / f"own_program{next(NUMBERS)}.py"
    path.write_text(source)
    linecache.clearcache()
    importlib.invalidate_caches()
    spec = importlib.util.spec_from_file_location("own_program", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules["own_program"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parts(folder: Path, source: str = SOURCE, **beside: str) -> dict[str, str]:
    module = load_program(folder, source, **beside)
    return INDEX.code_parts(module.count_words, module.CountConfig())


def test_the_parts_are_named_by_what_they_are(folder: Path) -> None:
    made = parts(folder)
    own = {name for name in made if name.startswith("own ")}
    assert own == {
        "own class Bounds", "own class CountConfig", "own class Form", "own function Bounds.holds",
        "own function CountConfig.check", "own function count_words",
        "own function make.<locals>.inner", "own function measure", "own function shorten",
        "own module beside_deeper", "own module beside_helper", "own value ENDS",
        "own value Bounds.low", "own value TABLE", "own value WEIGHTS", "own value bound",
        "own value measure default 0",
    }  # fmt: skip
    assert "components.text.word_splitting" in made
    assert "components.core.store.shards" in made
    assert made == parts(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", "# another"),
        ('"""Count."""', '"""Count words."""'),
        ('description="shortest"', 'description="of all"'),
        ("UNUSED = 1", "UNUSED = 2"),
        ("row = object()", "row = print"),
        ("def unused():\n    return 1", "def unused():\n    return 2"),
    ],
)
def test_other_code_runs_nothing_again(old: str, new: str, folder: Path) -> None:
    assert old in SOURCE
    assert parts(folder, SOURCE.replace(old, new)) == parts(folder)


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ('for row in ["a"]', 'for row in ["b"]', "own function count_words"),
        ("ENDS.split(text)) * factor", "ENDS.split(text)) + factor", "own function measure"),
        ('"[.!?]"', '"[.!]"', "own value ENDS"),
        ("[2, 3]", "[2, 4]", "own value WEIGHTS"),
        ("np.arange(3)", "np.arange(4)", "own value TABLE"),
        ("factor=2", "factor=3", "own value measure default 0"),
        ("is_long = make(10)", "is_long = make(11)", "own value bound"),
        ("is_longer = make(20)", "is_longer = make(10)", "own value bound"),
        ("make(10)\nis_longer = make(20)", "make(20)\nis_longer = make(10)", "own value bound"),
        ("len(text) > bound", "len(text) >= bound", "own function make.<locals>.inner"),
        ("default=1", "default=2", "own class CountConfig"),
        ("return value + 0", "return value + 1", "own function CountConfig.check"),
        ('SHORT = "s"', 'SHORT = "t"', "own class Form"),
        ("value > self.low", "value < self.low", "own function Bounds.holds"),
        ("low: int = 1", "low: int = 2", "own class Bounds"),
    ],
)
def test_code_that_is_reached_counts(old: str, new: str, part: str, folder: Path) -> None:
    assert old in SOURCE
    before, after = parts(folder), parts(folder, SOURCE.replace(old, new))
    assert part in {name for name in before | after if before.get(name) != after.get(name)}


def test_files_of_the_callers_count_and_files_that_these_import(folder: Path) -> None:
    before = parts(folder)
    edited = parts(folder, helper=HELPER.replace("text + text", "text * 2"))
    deeper = parts(folder, deeper="MOST = 4\n")
    assert {n for n in before if before[n] != edited[n]} == {"own module beside_helper"}
    assert {n for n in before if before[n] != deeper[n]} == {"own module beside_deeper"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "WEIGHTS = {",
            "WEIGHTS = open(__file__); OTHER = {",
            "uses WEIGHTS, a TextIOWrapper, which",
        ),
        ("is_long = make(10)", "is_long = lambda text: True", "uses a lambda"),
        ("TABLE = np.arange(3)", "TABLE = np.random.default_rng(0)", "uses TABLE, a Generator"),
    ],
)
def test_what_no_key_can_hold_is_refused_by_name(
    old: str, new: str, words: str, folder: Path
) -> None:
    with pytest.raises(ConfigError, match=words):
        parts(folder, SOURCE.replace(old, new))


def test_code_without_source_is_refused() -> None:
    namespace = {"__name__": "typed_in"}
    exec("def count(config, work):\n    return 1\n", namespace)
    with pytest.raises(ConfigError, match="the source of count cannot be read"):
        INDEX.code_parts(namespace["count"], None)  # type: ignore[arg-type]
