"""A page's story says each thing once."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from components.collect.scrape import NO_DATE
from flows.traced_page import show_page


def crawl(key: str) -> dict[str, Any]:
    row = {"reason": "", "status": 200, "bytes": 9}
    return {"crawl": key * 64, "as_of": NO_DATE, "fetched": [row], "set_aside": []}


def verdict(corpus: str) -> dict[str, Any]:
    told = {"kept": True, "document": "d", "rules": 3, "failed": [], "spans": [], "reasons": []}
    return {**told, "corpus": corpus * 64}


def test_equal_crawls_and_corpora_are_told_together() -> None:
    nothing = {"tokenizers": [], "instructions": [], "models": [], "versions": [], "datasets": []}
    tokens = {"key": "t" * 64, "tokens": 5, "split": "train"}
    reached = {**nothing, "corpus": "c" * 64, "trained_on": True, "tokens": [tokens, tokens]}
    value = {
        "page": "file:///notes/a.md",
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


def test_a_page_of_an_ill_server_says_why_it_is_kept() -> None:
    row = {"reason": "", "status": 503, "bytes": 9, "trouble": "HTTP 503"}
    ill = {"crawl": "a" * 64, "as_of": "2026-11-01T00:00:00Z", "fetched": [row], "set_aside": []}
    console = Console(file=io.StringIO(), width=100)
    value = {"page": "http://a.example/", "crawls": [ill], "verdicts": [], "reached": []}
    show_page(console, value)
    assert isinstance(console.file, io.StringIO)
    assert "  kept as it was before (HTTP 503): answered 503, 9 bytes" in console.file.getvalue()
