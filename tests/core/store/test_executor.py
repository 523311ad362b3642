"""Worker processes: results in order, and gone once they have been idle a while."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from components.core.errors import DataError
from components.core.store.executor import ProcessExecutor


@pytest.fixture
def pool() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor(1, idle_seconds=3600)
    yield made
    made.close()


def worker(_: object) -> int:
    return os.getpid()


def test_results_come_in_the_order_of_the_tasks(pool: ProcessExecutor) -> None:
    assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_worker_is_kept_between_stages_and_stopped_when_idle(pool: ProcessExecutor) -> None:
    (first,) = pool.map(worker, [0])
    pool.stop_idle()
    (second,) = pool.map(worker, [0])
    assert second == first != os.getpid()
    pool.idle_seconds = -1
    pool.stop_idle()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    (third,) = pool.map(worker, [0])
    assert third not in (first, os.getpid())


@dataclass(frozen=True)
class Task:
    name: str


def hang(_: Task) -> None:
    time.sleep(600)


def die(_: Task) -> None:
    os._exit(3)


@pytest.mark.timeout(60)
def test_a_task_that_hangs_is_stopped_and_named(pool: ProcessExecutor) -> None:
    with pytest.raises(DataError, match=r"00007\.parquet: was stopped after 1 s"):
        list(pool.map(hang, [Task("00007.parquet")], seconds=1))
    assert list(pool.map(abs, [-1])) == [1]


@pytest.mark.timeout(60)
def test_a_task_whose_worker_dies_is_named(pool: ProcessExecutor) -> None:
    with pytest.raises(DataError, match=r"00007\.parquet: its worker died \(exit 3\)"):
        list(pool.map(die, [Task("00007.parquet")]))
    assert list(pool.map(abs, [-1])) == [1]
