"""Fixtures shared by all tests."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.store.artifact import Corpus
from components.core.store.document_rows import DOCUMENT_SCHEMA, document_id, shard_of
from components.core.store.shards import shard_name, write_shard
from components.core.store.workdir import Workdir
from components.core.thread_settings import export_spin

os.environ.setdefault("MODELMILL_THREADS", "1")
"""Digests are compared all over the tests; what is started from one inherits it."""
export_spin()


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_auto_num_workers() -> int:
    """Workers of ``-n auto``: one more than cores, as a quarter of a worker's time is waiting."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Workers take groups of tests where ``--dist loadgroup`` asks for them."""
    from tests.worker_groups import GroupScheduling

    return GroupScheduling(config, log) if config.getvalue("dist") == "loadgroup" else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the workers of pytest-xdist begin with the groups that take longest."""
    if hasattr(config, "workerinput"):
        from tests.worker_groups import place

        items.sort(key=place)


def pytest_collection_finish() -> None:
    """Spare the garbage collector what collection imported: a pass over it takes a second."""
    gc.freeze()


@pytest.fixture
def work(tmp_path: Path) -> Workdir:
    """A workdir below a temporary store, to call a component as a plain function."""
    return Workdir.temporary(tmp_path / "store")


@pytest.fixture
def again(tmp_path: Path) -> Callable[[], Workdir]:
    """Further workdirs below the same store as ``work``."""
    return lambda: Workdir.temporary(tmp_path / "store")


@pytest.fixture
def corpus_of(tmp_path: Path) -> Callable[..., Corpus]:
    """Seals a corpus of documents: texts, or mappings that give other columns too."""

    def seal(documents: Sequence[str | Mapping[str, Any]], shards: int = 2) -> Corpus:
        rows = [_document(given, index) for index, given in enumerate(documents)]
        work = Workdir.temporary(tmp_path / "store")
        for number in range(shards):
            mine = [row for row in rows if shard_of(row["id"], shards) == number]
            table = pa.Table.from_pylist(
                sorted(mine, key=lambda r: r["id"]), schema=DOCUMENT_SCHEMA
            )
            write_shard(work.folder / shard_name(number), table)
        return work.seal(Corpus)

    return seal


def _document(given: str | Mapping[str, Any], index: int) -> dict[str, Any]:
    columns = {"text": given} if isinstance(given, str) else dict(given)
    url = columns.setdefault("url", f"https://docs.example/{index:04d}")
    row = {
        "id": document_id(url, columns["text"]),
        "source": "docs.example",
        "ordinal": 0,
        "title": f"Page {index}",
        "headings": [],
        "code": [],
        "navigation": "",
    }
    return row | columns
