"""Commands of the README and the docs, typed in a workspace in which the preset ``nano`` has run.

Those that start a server, wait for a person or take a page out are executed by tests of their own,
which ``EXECUTED_BY`` names; that every command is one the program takes is held for all of them by
``tests/docs/test_code_blocks.py``.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from components.core.store.shards import read_shards
from tests.docs.code_blocks import ROOT, code_blocks
from tests.docs.test_code_blocks import write_named_files
from tests.flows.conftest import AS_OF, CommandLine
from tests.flows.forked import run_forked

EXECUTED_BY = {
    "approve": "tests/flows/runner/test_approval_wait.py",
    "down": "tests/flows/operations/test_run_platform.py",
    "forget": "tests/flows/operations/test_forget.py",
    "rollback": "tests/publish/promotion/test_promotion_record.py",
    "serve": "tests/serving",
    "stage": "tests/flows/pipelines/test_run_stage.py",
    "up": "tests/flows/operations/test_run_platform.py",
}
"""Command -> test that executes it."""
ONLY_READ = {
    *("audit", "doctor", "dossier", "gc", "init", "models", "plan"),
    *("schema", "show", "status", "trace"),
}
"""Commands that are typed here as they stand, with the names of things that are there."""


def documented_commands() -> Iterator[list[str]]:
    """Words behind ``modelmill``, of every command in the pages, once each."""
    seen: set[tuple[str, ...]] = set()
    for block in code_blocks("sh"):
        for words in block.commands():
            if words[0] == "modelmill" and not block.not_run and tuple(words) not in seen:
                seen.add(tuple(words))
                yield words[1:]


@pytest.fixture(scope="module")
def reader(
    nano: tuple[CommandLine, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """Folder of a reader with the files that the pages name, and their environment."""
    modelmill, _ = nano
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(modelmill.home, folder / "home", symlinks=True)
    for block in code_blocks("yaml"):
        if name := re.match(r"# (\w+\.yaml)\n", block.text):
            (folder / name[1]).write_text(block.text)
        write_named_files(folder, block.text)
    environment = {
        **os.environ,
        "MODELMILL_HOME": str(folder / "home"),
        "PYTHONPATH": str(ROOT),
    }
    return folder, environment


def name_present_things(words: list[str], folder: Path) -> list[str]:
    """The command with the things of this workspace in place of those of the pages."""
    home = folder / "home"
    corpus = next(
        path.parent
        for path in home.glob("store/sealed/*/artifact.json")
        if json.loads(path.read_bytes())["format"].startswith("corpus")
    )
    page = read_shards(corpus, ["url"])["url"][0].as_py()
    head = json.loads((home / "audit.head.json").read_bytes())
    names = {
        "tiny": "nano",
        "tiny/3": "nano/1",
        "SHA256": head["sha256"],
        "chats.jsonl:17": page,
        "https://docs.acme.example/guide.html": page,
    }
    return [names.get(word, word) for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("words", documented_commands(), ids=" ".join)
def test_a_documented_command_does_what_it_says(
    words: list[str], reader: tuple[Path, dict[str, str]]
) -> None:
    folder, environment = reader
    name = words[0]
    if name in EXECUTED_BY:
        assert (ROOT / EXECUTED_BY[name]).exists()
        pytest.skip(f"executed by {EXECUTED_BY[name]}")
    typed = name_present_things(words, folder)
    if name == "run":
        # A run of pages that are not there, of minutes, or that waits for a person is planned.
        if typed[1] == "nano" and "--set" not in typed:
            typed += ["--plain", "--set", AS_OF]
        else:
            typed = ["plan", *(word for word in typed[1:] if word not in ("--refresh", "--plain"))]
    else:
        assert name in ONLY_READ, f"nothing here types {name}"
    if name in ("plan", "run") and not (folder / "run.yaml").exists():
        run_forked(["init", "run.yaml"], folder, environment, timeout=100)
    if name == "init":
        (folder / "run.yaml").unlink(missing_ok=True)
    done = run_forked(typed, folder, environment, timeout=280)
    # The doctor also looks at the machine, which may lack a thing here.
    fine = {0, 1} if name == "doctor" else {0}
    assert done.returncode in fine, (typed, done.stdout[-500:], done.stderr[-1500:])
    assert done.stdout
