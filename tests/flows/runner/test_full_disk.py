"""A disk that is full is one line, whoever says it, and whatever was to be written."""

from __future__ import annotations

import errno
import logging
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, MillError
from components.core.io.full_disk import explain_full_disk
from components.core.settings import Settings
from components.core.store.artifact import Report
from components.core.store.store import Store
from components.publish.registry.training_runs import FaultTolerantTracker, root_cause_line
from flows.runner import run_records
from flows.runner.run_records import RunRecord
from flows.runner.runner import StoreRunner
from tests.memory_tracker import MemoryTracker


def fill_a_database(folder: Path) -> None:
    """SQLite's own error: as on a full disk, no further page is to be had."""
    with closing(sqlite3.connect(folder / "small.db")) as database:
        database.execute("PRAGMA max_page_count = 2")
        database.execute("CREATE TABLE page (content)")
        database.execute("INSERT INTO page VALUES (zeroblob(100000))")


def through_sqlalchemy(folder: Path) -> None:
    """The same with the statement and its parameters around it, as MLflow tells it."""
    from sqlalchemy import create_engine, text

    with create_engine(f"sqlite:///{folder / 'other.db'}").connect() as connection:
        connection.execute(text("PRAGMA max_page_count = 2"))
        connection.execute(text("CREATE TABLE IF NOT EXISTS page (content)"))
        connection.execute(text("INSERT INTO page VALUES (zeroblob(100000))"))


def with_another_error_around_it(folder: Path) -> None:
    try:
        fill_a_database(folder)
    except sqlite3.Error as error:
        raise RuntimeError("the version could not be registered") from error


def in_words_alone(folder: Path) -> None:
    raise RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")


def by_number(folder: Path) -> None:
    raise OSError(errno.ENOSPC, "No space left on device", str(folder / "state.json"))


@pytest.mark.parametrize(
    "write",
    [
        fill_a_database,
        through_sqlalchemy,
        with_another_error_around_it,
        in_words_alone,
        by_number,
    ],
)
def test_a_full_disk_is_one_line(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with (
        pytest.raises(MillError, match=f"no space left while writing {tmp_path}.*run the same"),
        explain_full_disk(tmp_path),
    ):
        write(tmp_path)


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), ValueError("bad"), DataError("No space left")]
)
def test_another_error_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explain_full_disk(tmp_path):
        raise error
    assert raised.value is error


def test_an_action_on_a_full_disk_is_one_line(tmp_path: Path) -> None:
    @action()
    def act(config: StageConfig, workspace: Workspace) -> Change[Report]:
        fill_a_database(workspace.settings.home)
        raise AssertionError("it was written")

    settings = Settings(home=tmp_path, reference_data=tmp_path)
    runner = StoreRunner(Store(settings.store), Workspace(settings))
    with pytest.raises(MillError, match=f"no space left while writing {tmp_path}"):
        runner.action("register", act, StageConfig())


def test_a_record_that_cannot_be_written_does_not_hide_why_the_run_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = RunRecord(tmp_path / "runs", "nano", "nano", datetime.now(UTC))
    written = record.path.read_bytes()
    monkeypatch.setattr(run_records, "write_atomically", lambda path, content: by_number(tmp_path))
    record.failed("pretrain", MillError("no space left"))
    assert record.is_closed
    assert record.path.read_bytes() == written  # `running`: the next command closes it
    with pytest.raises(MillError, match="no space left while writing"):
        record.close("completed")


class Full(MemoryTracker):
    """A tracker whose database has no room."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def flush(self) -> None:
        through_sqlalchemy(self.folder)

    def close(self, *, failed: bool) -> None:
        through_sqlalchemy(self.folder)


def test_what_no_tracker_takes_is_one_short_line_or_none_where_the_training_failed_too(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        FaultTolerantTracker(lambda: Full(tmp_path)).close(failed=True)
        assert caplog.messages == []
        FaultTolerantTracker(lambda: Full(tmp_path)).flush()
    reason = "the training is no longer recorded in MLflow: database or disk is full"
    assert caplog.messages == [reason]


def test_the_root_cause_of_an_error_without_one_is_its_own_text() -> None:
    assert root_cause_line(ValueError("two\nlines")) == "two lines"
    assert root_cause_line(KeyError()) == "KeyError"
