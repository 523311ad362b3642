"""What a person typed is shown as it is; every command explains itself."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest
from rich.console import Console
from typer.testing import CliRunner

from components.core.store.artifact import Corpus, Lineage
from flows.cli.main import COMMANDS, app
from flows.runner.progress_display import key_figure, rows_table

NAMES = sorted(
    (command.name or getattr(command.callback, "__name__", "")).replace("_", "-")
    for command in app.registered_commands
)


@pytest.mark.parametrize("command", [name for name in NAMES if name != "bench"])
def test_every_command_explains_itself(command: str) -> None:
    """A bracket in a help text is markup to what prints it."""
    done = CliRunner().invoke(app, [command, "--help"])
    assert done.exit_code == 0, done.output
    assert len(NAMES) > len(COMMANDS)


def test_bench_explains_itself_in_the_process_that_it_becomes() -> None:
    """It replaces its process by the benchmarks', so it cannot be called in the tests' own."""
    command = [sys.executable, "-m", "flows.cli.main", "bench", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "--repeats" in done.stdout) == (0, True), done.stderr


def test_select_says_which_rules_dropped_most() -> None:
    dropped = {"a.x": 4.0, "b.y": 30.0, "c.z": 9.0, "d.w": 0.0}
    stats = {"kept": 1200.0, "dropped": 43.0, "kept_characters": 5.0}
    rules = {f"dropped_by_{rule}": count for rule, count in dropped.items()}
    lineage = Lineage(component="c", code="", config="")
    corpus = Corpus(name="sealed/a", digest="d", lineage=lineage, stats=stats | rules)
    assert key_figure(corpus) == "kept 1,200; dropped 43: b.y 30, c.z 9, a.x 4"
    more = corpus.model_copy(update={"stats": corpus.stats | {"dropped_by_e.v": 2.0}})
    assert key_figure(more) == "kept 1,200; dropped 43: b.y 30, c.z 9, a.x 4, ..."
    none = corpus.model_copy(update={"stats": stats | {"dropped": 0.0}})
    assert key_figure(none) == "kept 1,200"


def test_what_a_person_wrote_is_no_markup() -> None:
    out = io.StringIO()
    table = rows_table(("what",), [("bad [/close] tag [red]x",)])
    Console(file=out, width=80).print(table)
    assert "bad [/close] tag [red]x" in out.getvalue()
