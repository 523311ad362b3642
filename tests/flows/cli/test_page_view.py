"""A page's story says each thing once."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from components.clean.select import SelectConfig, select
from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.extract import ExtractConfig, extract
from components.collect.scrape import scrape
from components.collect.scrape_config import FILES_DATE, ScrapeConfig
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.settings import Settings
from components.core.store.store import Store
from components.lineage.forget_orders import record_order
from flows.cli.views.page_view import show_page
from flows.cli.views.trace_view import trace_page_or_model
from tests.flows.pipelines.test_bad_input import prose


def crawl(key: str) -> dict[str, Any]:
    row = {"reason": "", "status": 200, "bytes": 9}
    told = {"fetched": [row], "set_aside": [], "documents": ["d"]}
    return {"crawl": key * 64, "as_of": FILES_DATE, **told}


def verdict(corpus: str) -> dict[str, Any]:
    told = {"kept": True, "document": "d", "rules": 3, "failed": [], "spans": [], "reasons": []}
    return {**told, "corpus": corpus * 64, "crawls": ["a" * 64, "b" * 64], "finished": True}


def test_equal_crawls_and_corpora_are_told_together() -> None:
    empty = ("tokenizers", "instructions", "preferences", "models", "versions", "datasets")
    nothing: dict[str, list[Any]] = {name: [] for name in empty}
    tokens = {"key": "t" * 64, "tokens": 5, "split": "train"}
    reached = {**nothing, "corpus": "c" * 64, "trained_on": True, "tokens": [tokens, tokens]}
    value = {
        "page": "file:///notes/a.md",
        "orders": [],
        "crawls": [crawl("a"), crawl("b"), crawl("b")],
        "verdicts": [verdict("c"), verdict("c"), verdict("e")],
        "reached": [reached],
    }
    console = Console(file=io.StringIO(), width=100)
    show_page(console, value)
    assert isinstance(console.file, io.StringIO)
    lines = [line for line in console.file.getvalue().splitlines() if line.strip("━┃┏┓ ")]
    assert len(lines) == len(set(lines))
    assert f"crawl {'a' * 12}, {'b' * 12}" in lines
    assert "  kept: read from a file, 9 bytes" in lines
    assert f"corpus {'c' * 12}, {'e' * 12}" in lines
    assert f"made of corpus {'c' * 12}" in lines


@pytest.mark.parametrize(
    ("row", "line"),
    [
        (
            {"status": 503, "trouble": "HTTP 503", "note": ""},
            "  kept as it was before (HTTP 503): answered 503, 9 bytes",
        ),
        (
            {"status": 200, "trouble": "", "note": "its gzip data ends early"},
            "  kept (its gzip data ends early): answered 200, 9 bytes",
        ),
    ],
)
def test_a_page_that_is_kept_all_the_same_says_why(row: dict[str, Any], line: str) -> None:
    row = {"reason": "", "bytes": 9, **row}
    ill = {**crawl("a"), "as_of": "2026-11-01T00:00:00Z", "fetched": [row]}
    console = Console(file=io.StringIO(), width=100)
    value = {
        "page": "http://a.example/",
        "orders": [],
        "crawls": [ill],
        "verdicts": [],
        "reached": [],
    }
    show_page(console, value)
    assert isinstance(console.file, io.StringIO)
    assert line in console.file.getvalue()


def shown(settings: Settings, page: str) -> str:
    console = Console(file=io.StringIO(), width=200)
    trace_page_or_model(settings, page).show(console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class Files:
    """Runs the first stages over a folder of files, as a run does."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(home=folder / "home", reference_data=folder)
        self.store = Store(self.settings.store)
        self.files = [f"{folder}/in/*"]

    def make(self, component: Any, config: StageConfig, **inputs: Any) -> Any:
        return self.store.run_request(self.store.make_request(component, config, inputs))[0]

    def crawl(self) -> Any:
        config = resolve_crawl(ScrapeConfig(files=self.files), [], False, "2026-01-01T00:00:00Z")
        return self.make(scrape, config)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    (tmp_path / "in").mkdir()
    for name, text in {"short": "too short", "long": prose(1), "other": prose(2)}.items():
        (tmp_path / "in" / f"{name}.txt").write_text(text)
    return Files(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (ExtractConfig(), ": shorter than 200 characters"),
        (ExtractConfig(min_chars=90_000), ", which did not end well: shorter than 90000"),
        (ExtractConfig(max_chars=1, max_bad_share=0.0), ", which did not end well: longer than 1 "),
    ],
)
def test_what_extraction_set_aside_says_why_though_it_failed(
    files: Files, config: ExtractConfig, reason: str
) -> None:
    pages = files.crawl()
    told = shown(files.settings, "file:///in/short.txt")
    assert "no finished extraction of this crawl holds a text of it" in told
    with suppress(DataError):
        files.make(extract, config, pages=pages)
    told = shown(files.settings, "file:///in/short.txt")
    assert f"set aside at extraction{reason}" in told
    assert "no finished extraction" not in told


def test_what_a_failed_selection_dropped_says_by_which_rule(files: Files) -> None:
    corpus = files.make(extract, ExtractConfig(), pages=files.crawl())
    assert "extracted, and not judged by `select` yet" in shown(
        files.settings, "file:///in/long.txt"
    )
    forgotten = SelectConfig(blocked_urls=("file:///in",))
    with pytest.raises(DataError, match="no document is left"):
        files.make(select, forgotten, corpus=corpus, scores={})
    told = shown(files.settings, "file:///in/long.txt")
    assert "of a `select` that did not end well" in told
    assert "dropped by blocked" in told
    assert "not judged" not in told
    assert "made of corpus" not in told


def test_a_page_that_is_to_be_forgotten_says_since_when_and_why(files: Files) -> None:
    files.make(extract, ExtractConfig(), pages=files.crawl())
    record_order(files.settings, "file:///in/long.txt", "its author asked")
    told = shown(files.settings, "file:///in/long.txt")
    assert "(file:///in/long.txt): its author asked" in told
    assert "forgotten" not in shown(files.settings, "file:///in/other.txt")
