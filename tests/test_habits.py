"""Files that a project's house rests on: they agree with each other and with what is installed."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
APACHE_2 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""sha256 of the Apache License 2.0 as its foundation publishes it, appendix included."""


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def make_commands(target: str) -> list[str]:
    """The recipe of one target of the Makefile, with the environment's folder in place."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"(?m)^{target}:.*\n((?:\t.*\n)+)", makefile)
    assert recipe, target
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe[1].splitlines()]


def packages() -> list[str]:
    return [
        name.rstrip("*") for name in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    ]


def test_the_licence_is_the_published_text() -> None:
    text = (ROOT / "LICENSE").read_bytes()
    assert text.decode().split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert hashlib.sha256(text).hexdigest() == APACHE_2
    assert PROJECT["project"]["license"] == "Apache-2.0"
    assert PROJECT["project"]["license-files"] == ["LICENSE"]


def test_every_package_is_marked_typed_and_ships_the_mark() -> None:
    assert [name for name in packages() if not (ROOT / name / "py.typed").is_file()] == []
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["*"]


def test_hooks_are_the_commands_of_make_check() -> None:
    (local,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == make_commands("check")
    assert {(hook["language"], hook["pass_filenames"]) for hook in local["hooks"]} == {
        ("system", False)  # nothing is downloaded; the whole tree is looked at
    }


def test_the_workflow_checks_and_tests_with_every_supported_python() -> None:
    workflow = read_yaml(".github/workflows/checks.yml")
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make check", "make test"]
    oldest, end = re.findall(r"3\.(\d+)", PROJECT["project"]["requires-python"])
    supported = [f"3.{minor}" for minor in range(int(oldest), int(end))]
    assert job["strategy"]["matrix"]["python"] == supported
    assert workflow["permissions"] == {"contents": "read"}


def test_the_version_stands_in_one_place() -> None:
    version = PROJECT["project"]["version"]
    shown = subprocess.run(
        [sys.executable, "-m", "flows.cli.main", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.stdout == f"modelmill {version}\n", "`make setup` renews what is installed"
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"(?m)^## (\S+)", changelog)
    assert newest is not None
    assert newest[1] == version


PAGES = [ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")]


@pytest.mark.parametrize(
    "page", [*PAGES, *(ROOT / "docs").glob("*.md")], ids=lambda page: page.name
)
def test_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:flows|serving|components|models|data|infra)/[\w./]*)`", text)
    prose = re.sub(r"`[^`\n]*`(?!\])", "", text)  # a pattern may look like a link
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", prose)
    assert [path for path in named if not (ROOT / path).exists()] == []
    assert [path for path in links if not (page.parent / path).exists()] == []
