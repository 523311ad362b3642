"""Code blocks of the pages: every kind is known, and each is read as what it says it is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
import yaml

from components.core.settings import Settings
from flows.cli.main import app
from flows.configs.target_config import read_target
from tests.base_models import write_base
from tests.docs.code_blocks import ROOT, CodeBlock, code_blocks

KINDS = {"sh", "console", "yaml", "python", "json", "diff", "mermaid", "text"}
"""``text`` is output or a layout, ``mermaid`` is drawn when the site is built."""
PYTHON_TESTS = {
    "docs/api.md": "tests/flows/examples/test_api_page.py",
    "docs/serve.md": "tests/serving/api/test_serving_docs.py",
    "CONTRIBUTING.md": "tests/docs/test_contributing.py",
}
"""Page with Python blocks -> the test that executes them."""
SAMPLES = {
    "chats": [{"question": "Where?", "answer": "There."}],
    "tickets": [{"question": "Where to?", "answer": "Home."}],
    "faq": [{"question": "Where from?", "answer": "Home."}],
    "pairs": [{"prompt": "Where?", "chosen": "There.", "rejected": "Dunno."}],
    "ratings": [
        {"prompt": "Where?", "response": "There.", "rating": 4},
        {"prompt": "Where?", "response": "Dunno.", "rating": 1},
    ],
    "good": [{"text": "A sentence.", "label": 1}, {"text": "BUY NOW", "label": 0}],
    "toxic": [{"text": "A sentence.", "label": 0}, {"text": "You fool", "label": 1}],
    "lines": [{"text": "Saluton, mondo", "language": "eo"}],
    "math": [{"question": "What is two and two?", "answer": "four"}],
}
"""Rows of the files that the pages name, by the file's stem."""
TEMPLATE = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}<|assistant|>"


def test_every_block_is_of_a_known_kind_and_the_rare_one_says_why_it_is_not_run() -> None:
    blocks = code_blocks()
    assert {block.page for block in blocks} >= {"README.md", "docs/serve.md", "CONTRIBUTING.md"}
    assert [f"{block}: {block.language!r}" for block in blocks if block.language not in KINDS] == []
    not_run = [block for block in blocks if block.not_run]
    assert len(not_run) <= len(blocks) / 10


@pytest.mark.parametrize("block", code_blocks("sh", "console"), ids=str)
def test_every_command_is_one_that_the_program_takes(block: CodeBlock) -> None:
    if block.not_run:
        return
    command = typer.main.get_command(app)
    words_of_block = list(block.commands())
    assert words_of_block
    for words in words_of_block:
        if block.language == "console":
            if words[0] != "$":
                break  # what it prints
            words = words[1:]
        program, *arguments = words
        if program == "modelmill":
            context = command.make_context("modelmill", list(arguments))
            name, found, rest = command.resolve_command(context, [*arguments])  # type: ignore[attr-defined]
            assert found is not None, f"{block}: no command {name}"
            found.make_context(name, rest, parent=context)  # refuses unknown options and values
        elif program == "make":
            done = subprocess.run(
                ["make", "-n", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, f"{block}: {done.stderr}"
        elif program == "git":
            assert arguments[0] == "apply", f"{block}: git {arguments[0]}"
            check = ["git", "apply", "--check", *arguments[1:]]
            checked = subprocess.run(check, cwd=ROOT, capture_output=True, text=True, check=False)
            assert checked.returncode == 0, f"{block}: {checked.stderr}"
        elif program == "curl":
            json.loads(arguments[arguments.index("-d") + 1].replace("[...]", "[]"))
        else:
            pytest.fail(f"{block}: nothing here runs {program}")


def write_named_files(folder: Path, text: str) -> None:
    """Write small files of every name that a run's YAML names."""
    for name in re.findall(r"[\w./-]+\.(?:jsonl|parquet|jinja|pem)\b", text):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jinja":
            path.write_text(TEMPLATE)
        elif path.suffix == ".pem":
            path.write_text("")
        elif path.suffix == ".parquet":
            pq.write_table(pa.Table.from_pylist(SAMPLES[path.stem]), path)
        else:
            rows = SAMPLES[path.stem]
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for pattern in (yaml.safe_load(text).get("scrape") or {}).get("files", ()):
        path = folder / pattern.replace("*", "any")
        path = path if path.suffix else path / "page.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# A heading\n\nA sentence.\n")
    for name in re.findall(r"models/[\w.-]+", text):
        write_base(folder / name, "qwen3")


@pytest.mark.parametrize("block", code_blocks("yaml"), ids=str)
def test_every_yaml_block_is_the_file_of_a_run(
    block: CodeBlock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_named_files(tmp_path, block.text)
    for name in re.findall(r"\$\{(\w+)\}", block.text):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.yaml"
    path.write_text(block.text)
    run = read_target(str(path), [], Settings(home=tmp_path, reference_data=tmp_path))
    given = yaml.safe_load(block.text)
    assert given.pop("preset")
    assert set(given) <= set(run.model_fields_set | set(type(run).model_fields))
    changed = run.model_dump(mode="json")
    for name, value in given.items():
        if not isinstance(value, dict):
            assert changed[name] == value or name == "base"


@pytest.mark.parametrize("block", code_blocks("json"), ids=str)
def test_every_json_block_is_json(block: CodeBlock) -> None:
    json.loads(block.text)


def test_every_page_with_python_has_a_test_that_executes_it() -> None:
    for block in code_blocks("python"):
        test = ROOT / PYTHON_TESTS.get(block.page, "")
        assert test.is_file(), f"{block}: PYTHON_TESTS names no test for the page"
        assert block.page in test.read_text(encoding="utf-8")


@pytest.mark.parametrize("block", code_blocks("diff"), ids=str)
def test_every_diff_is_of_the_files_as_they_are(block: CodeBlock) -> None:
    """Lines that a diff leaves as they are stand in the file, in this order."""
    name, lines = "", iter(())
    for line in block.text.splitlines():
        if line.startswith("+++ b/"):
            path = ROOT / line.removeprefix("+++ b/")
            name = path.name
            lines = iter(path.read_text(encoding="utf-8").splitlines() if path.is_file() else ())
        elif line.startswith(" "):
            assert line[1:] in lines, f"{block}: {name} has no line {line[1:]!r} there"
        elif not line.startswith("+"):
            pytest.fail(f"{block}: {line!r} is no line of a diff")
