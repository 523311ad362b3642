"""Editing a helper changes the code digest of what uses it; editing a comment changes nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

from components.clean.quality import score_quality
from components.core.code import PLUMBING, CodeIndex, normalise


def test_comments_docstrings_and_descriptions_do_not_count() -> None:
    before = (
        'def f(x):\n    """Say."""\n    return x + 1\n\nA = Field(default=1, description="a")\n'
    )
    after = (
        "# why\ndef f(x):\n\n    return (x + 1)  # more\n\nA = Field(default=1, description='b')\n"
    )
    assert normalise(before) == normalise(after)


def test_code_and_defaults_count() -> None:
    assert normalise("def f(x):\n    return x + 1") != normalise("def f(x):\n    return x + 2")
    assert normalise("A = Field(default=1)") != normalise("A = Field(default=2)")


PACKAGE = {
    "mill/__init__.py": "",
    "mill/stage.py": "from mill.helper import double\nimport yaml\n\ndef stage(x):\n    return double(x)\n",
    "mill/helper.py": "def double(x):\n    return 2 * x\n",
    "mill/other.py": "def other(x):\n    return x\n",
}
PRINT = "from components.core.code import CodeIndex; from mill.stage import stage; print(CodeIndex(['mill']).digest(stage))"


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
    parts = CodeIndex().parts(score_quality)
    assert "components.core.shards" in parts
    assert "components.core" in parts
    assert parts["pyarrow"] == ".".join(
        importlib.import_module("pyarrow").__version__.split(".")[:2]
    )
    assert not parts.keys() & PLUMBING
