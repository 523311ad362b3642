"""A page that takes its extractor along is set aside alone, and the rest goes on."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from components.collect import extract as extract_module
from components.collect.extract import ExtractConfig, extract, extract_archive
from components.collect.warc.page_shards import WebPage
from components.core.store.executor import ProcessExecutor
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from tests.collect.test_extract import PROSE, documents, pages_of


def _page_that_ends_its_process(page: WebPage, config: ExtractConfig) -> dict[str, Any]:
    """In place of the extractor's own function: pages that name what they do to it."""
    kind = page.url.rpartition("/")[2]
    if kind == "loop":
        while True:
            pass
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "bug":
        raise AssertionError("no such case")
    if kind == "flaky":
        marker = Path(page.body.decode().partition("|")[0])
        if not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
    return _DOCUMENT(page, config)


_DOCUMENT = extract_module._make_document


def _extract_file(task: Any) -> str:
    """``extract_file`` in a worker whose extractor is as ill as its pages ask."""
    warm = WebPage("http://a.example/", f"<main>{PROSE}</main>".encode(), "text/html", "")
    _DOCUMENT(warm, task.config)  # kernels may be compiled now, which takes longer than a page
    extract_module._make_document = _page_that_ends_its_process
    return extract_archive(task)


@pytest.mark.timeout(180)
def test_pages_that_hang_or_crash_the_extractor_are_set_aside_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = ["loop", "crash", "bug", "flaky", *map(str, range(8))]
    bodies: dict[str, bytes | str] = {
        f"http://a.example/{kind}": f"{tmp_path / 'marker'}|<main>{kind} {PROSE}</main>"
        for kind in kinds
    }
    pages = pages_of(tmp_path, bodies)
    monkeypatch.setattr(extract_module, "extract_archive", _extract_file)
    pool = ProcessExecutor(2)
    try:
        work = Workdir.temporary(tmp_path / "store")
        work.executor = pool
        corpus = extract(ExtractConfig(max_bad_share=0.5, page_seconds=2), pages, work)
    finally:
        pool.close()
    refused = read_shard(work.artifact_folder(corpus) / "quarantine.parquet").to_pylist()
    assert {row["url"].rpartition("/")[2]: row["reason"] for row in refused} == {
        "bug": "the extractor failed: AssertionError: no such case",
        "crash": "ended its process twice (SIGSEGV)",
        "loop": "took more than 2 s of processor time",
    }
    kept = {row["url"].rpartition("/")[2] for row in documents(work, corpus)}
    assert kept == {"flaky", *map(str, range(8))}
