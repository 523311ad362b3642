"""Editing a helper changes the code digest of what uses it; editing a comment changes nothing."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from components.clean.quality.score import score_quality
from components.core.store.code_digest import (
    PLUMBING,
    CodeIndex,
    digest_installation,
    normalise_source,
)


def test_comments_docstrings_and_descriptions_do_not_count() -> None:
    before = (
        'def f(x):\n    """Say."""\n    return x + 1\n\nA = Field(default=1, description="a")\n'
    )
    after = (
        "# why\ndef f(x):\n\n    return (x + 1)  # more\n\nA = Field(default=1, description='b')\n"
    )
    assert normalise_source(before) == normalise_source(after)


def test_code_and_defaults_count() -> None:
    assert normalise_source("def f(x):\n    return x + 1") != normalise_source(
        "def f(x):\n    return x + 2"
    )
    assert normalise_source("A = Field(default=1)") != normalise_source("A = Field(default=2)")


PACKAGE = {
    "mill/__init__.py": "",
    "mill/stage.py": "from mill.helper import double\nimport yaml\n\ndef stage(x):\n    return double(x)\n",
    "mill/helper.py": "def double(x):\n    return 2 * x\n",
    "mill/other.py": "def other(x):\n    return x\n",
}
PRINT = "from components.core.store.code_digest import CodeIndex; from mill.stage import stage; print(CodeIndex(['mill']).digest_component(stage))"


def _digest(root: Path, **edits: str) -> str:
    for name, content in PACKAGE.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(edits.get(path.stem, content))
    code = f"import sys; sys.path.insert(0, {str(root)!r}); {PRINT}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_edited_helper_changes_its_users_digest(tmp_path: Path) -> None:
    before = _digest(tmp_path)
    assert _digest(tmp_path, helper="def double(x):\n    return x + x\n") != before
    assert _digest(tmp_path, helper="# faster\ndef double(x):\n    return 2 * x\n") == before
    assert _digest(tmp_path, other="def other(x):\n    return -x\n") == before


def test_parts_name_helpers_and_library_versions_but_not_the_plumbing() -> None:
    parts = CodeIndex().code_parts(score_quality)
    assert "components.core.store.shards" in parts
    assert "components.core" in parts
    assert parts["pyarrow"] == ".".join(
        importlib.import_module("pyarrow").__version__.split(".")[:2]
    )
    assert not parts.keys() & PLUMBING


def test_what_is_remembered_is_never_stale(tmp_path: Path) -> None:
    """The same size and time, another content: another digest; and the memory is really used."""
    source = tmp_path / "later.py"
    memory = tmp_path / "store" / "code.json"

    def digest(text: str) -> str:
        source.write_text(text)
        os.utime(source, ns=(10**18, 10**18))
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
            "from pathlib import Path\nfrom components.core.store.code_digest import CodeIndex\n"
            "import later\n"
            f"index = CodeIndex(memory=Path({str(memory)!r}))\n"
            "print(index.digest_component(later.stage)); index.save_memory()"
        )
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        return done.stdout

    one, other = "def stage():\n    return 1\n", "def stage():\n    return 2\n"
    first = digest(one)
    assert next(iter(json.loads(memory.read_bytes())["modules"])).startswith("later ")
    assert digest(one) == first
    assert digest(other) != first
    memory.write_bytes(memory.read_bytes()[:-9])  # torn
    assert digest(one) == first
    assert json.loads(memory.read_bytes())["made_by"]


def test_another_version_of_a_library_is_seen(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    before = digest_installation()
    metadata = tmp_path / "thing-1.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Name: thing\nVersion: 1.0\n")
    between = digest_installation()
    assert between != before
    metadata.write_text("Name: thing\nVersion: 1.1\n")
    os.utime(metadata, ns=(10**18, 10**18))
    assert digest_installation() not in (before, between)


def test_the_classes_of_a_config_count_with_those_nested_in_it(tmp_path: Path) -> None:
    """What is outside the packages is left out; its bases inside them are not."""
    files = {
        "mill/__init__.py": "",
        "mill/stage.py": "def stage(config):\n    return config.rule.bound\n",
        "mill/base.py": "from pydantic import BaseModel\n\nclass Base(BaseModel):\n    pass\n",
        "mill/rule.py": "from pydantic import BaseModel\nfrom mill.helper import ONE\n\n"
        "class Rule(BaseModel):\n    bound: int = ONE\n",
        "mill/helper.py": "ONE = 1\n",
        "mill/unused.py": "ONE = 1\n",
        "flow.py": "from mill.base import Base\nfrom mill.rule import Rule\nimport mill.unused\n\n"
        "class Run(Base):\n    rules: dict[str, tuple[Rule, ...]]\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from components.core.store.code_digest import CodeIndex\n"
        "from mill.stage import stage; from flow import Rule, Run\n"
        "index, config = CodeIndex(['mill']), Run(rules={'a': (Rule(),)})\n"
        "print(*sorted(index.code_parts(stage)))\n"
        "print(*sorted(index.code_parts(stage, config)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    without, parts = (line.split() for line in done.stdout.splitlines())
    assert without == ["mill", "mill.stage", "plumbing"]
    more = ["mill.base", "mill.helper", "mill.rule", "pydantic"]
    assert parts == sorted([*without, *more])
