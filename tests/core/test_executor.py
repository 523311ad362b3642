"""Worker processes: results in order, and gone once they have been idle a while."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from components.core.executor import Pool


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(1, idle_seconds=3600)
    yield made
    made.close()


def worker(_: object) -> int:
    return os.getpid()


def test_results_come_in_the_order_of_the_tasks(pool: Pool) -> None:
    assert list(pool.map(abs, [-3, 2, -1])) == [3, 2, 1]


def test_a_worker_is_kept_between_stages_and_stopped_when_idle(pool: Pool) -> None:
    (first,) = pool.map(worker, [0])
    pool.rest()
    (second,) = pool.map(worker, [0])
    assert second == first != os.getpid()
    pool.idle_seconds = -1
    pool.rest()
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    (third,) = pool.map(worker, [0])
    assert third not in (first, os.getpid())
