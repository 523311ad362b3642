"""Workspaces of another layout are refused as they are; a new one gets the number once."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from components.core import settings
from components.core.errors import ConfigError
from components.core.workspace_layout import LAYOUT, LAYOUT_FILE, mark_layout

COMMANDS = (
    ("run", "nano"),
    ("plan", "nano"),
    ("show",),
    ("stage", "select", "--input", "pages", "--output", "out"),
    ("serve",),
    ("up",),
    ("doctor",),
    ("gc",),
    ("trace", "https://docs.example/"),
    ("forget", "https://docs.example/", "--why", "asked"),
    ("models",),
)
PROGRAMS = ("components.publish.registry.registry_ui", "serving.gateway.endpoint_manager")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A workspace as the layout without a number left it."""
    home = tmp_path / "old"
    for name, content in {
        "store/sealed/9f3a/artifact.json": '{"format": "corpus/1", "files": {}}',
        "store/uses.lock": "",
        "mlflow/mlflow.db": "no database of this version",
        "prefect/prefect.db": "none either",
        "runs/nano-20260101T000000-1.json": '{"run": "nano-1", "state": "running", "process": 1}',
        "audit.jsonl": "{}\n",
    }.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(content)
    return home


def _everything(home: Path) -> dict[str, tuple[str, float]]:
    """Name -> (digest, time of the last change) of every file and folder."""
    return {
        path.relative_to(home).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "",
            path.stat().st_mtime,
        )
        for path in (home, *home.rglob("*"))
    }


def _python(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**os.environ, "MODELMILL_HOME": str(home)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_an_old_workspace_is_refused_and_left_as_it_is(old: Path, command: tuple[str, ...]) -> None:
    before = _everything(old)
    ended = _python(old, "flows.cli.entry", *command)
    assert (ended.returncode, ended.stdout) == (2, "")
    line = (
        f"modelmill: MODELMILL_HOME={old} was written by an earlier version of Modelmill (layout "
        f"1, this one has {LAYOUT}): set MODELMILL_HOME to a new folder; nothing in it was changed"
    )
    assert ended.stderr == f"{line}\n"
    assert _everything(old) == before


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_service_refuses_it_too(old: Path, program: str) -> None:
    before = _everything(old)
    ended = _python(old, program, "1")
    assert ended.returncode == 2
    assert "was written by an earlier version of Modelmill" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert _everything(old) == before


def test_the_flow_run_of_a_worker_fails_with_the_line(old: Path, tmp_path: Path) -> None:
    before = _everything(old)
    program = tmp_path / "flow_run.py"
    program.write_text(
        "from flows.pipelines.deployments import _run\n"
        "from flows.runner.run_pipeline import RunOptions\n"
        "state = _run(RunOptions('nano', []))\n"
        "print(state.type.value, state.message)\n"
    )
    ended = subprocess.run(
        [sys.executable, program],
        env={**os.environ, "MODELMILL_HOME": str(old), "PYTHONPATH": str(Path.cwd())},
        capture_output=True,
        text=True,
    )
    assert ended.stdout.startswith(f"FAILED MODELMILL_HOME={old} was written by an earlier version")
    assert _everything(old) == before


def test_only_what_writes_a_new_workspace_gives_it_the_number(tmp_path: Path) -> None:
    home = tmp_path / "new"
    assert _python(home, "flows.cli.entry", "show").returncode == 0
    assert not home.exists()
    ended = _python(home, "flows.cli.entry", "run", "nano", "--plain", "--until", "extract")
    assert ended.returncode == 0, ended.stderr
    assert json.loads((home / LAYOUT_FILE).read_text()) == {"layout": LAYOUT}
    assert _python(home, "flows.cli.entry", "show").returncode == 0


@pytest.mark.parametrize("trace", ["audit.jsonl", "blocklist.jsonl", "datasets/.dvc/config"])
def test_any_trace_of_an_earlier_version_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trace: str
) -> None:
    (tmp_path / trace).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / trace).write_text("{}\n")
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="was written by an earlier version"):
        settings.load_settings()


def test_a_workspace_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    home = tmp_path / "file" / "home"
    with pytest.raises(ConfigError, match=rf"^{home}: the workspace cannot be written \(Not a dir"):
        mark_layout(home)


def test_an_order_to_forget_may_be_the_first_write(tmp_path: Path) -> None:
    home = tmp_path / "home"
    words = ("forget", "https://docs.example/a", "--why", "asked")
    ended = _python(home, "flows.cli.entry", *words)
    assert ended.returncode == 0, ended.stderr
    assert json.loads((home / LAYOUT_FILE).read_text()) == {"layout": LAYOUT}
    assert _python(home, "flows.cli.entry", *words).returncode == 0


def test_looking_at_the_audit_log_writes_nothing(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    ended = _python(home, "flows.cli.entry", "doctor")
    assert "audit" in ended.stdout
    assert list(home.iterdir()) == []


def test_a_number_once_written_stays(tmp_path: Path) -> None:
    mark_layout(tmp_path)
    before = (tmp_path / LAYOUT_FILE).stat().st_mtime_ns
    mark_layout(tmp_path)
    assert (tmp_path / LAYOUT_FILE).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (f'{{"layout": {LAYOUT + 1}}}', "was written by a later version .*use that version, or"),
        ('{"layout": 1}', "was written by an earlier version of Modelmill"),
        ('{"layout": true}', f"{LAYOUT_FILE} cannot be read: set MODELMILL_HOME to a new folder"),
        ("", f"{LAYOUT_FILE} cannot be read"),
        ("[]", f"{LAYOUT_FILE} cannot be read"),
    ],
)
def test_another_number_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, line: str
) -> None:
    (tmp_path / LAYOUT_FILE).write_text(content)
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=f"^MODELMILL_HOME={tmp_path}.*{line}"):
        settings.load_settings()


def test_an_empty_folder_is_a_new_workspace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELMILL_HOME", str(tmp_path))
    assert settings.load_settings().home == tmp_path
    assert list(tmp_path.iterdir()) == []
