"""Pages by their status as browsers show them, and redirects that cannot be followed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curate.web.http_situations import build_response
from benchmarks.curate.web.raw_site import Answer, open_raw_site
from components.collect.crawl.robots_rules import fetch_robots_rules
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.web.http_fetcher import FetchResult
from components.core.store.workdir import Workdir
from tests.collect.crawling import LONG, NOW, ledger_rows, words


def crawl(answers: dict[str, Answer], folder: Path) -> dict[str, dict[str, Any]]:
    """Ledger rows of a crawl whose home page links to all answers, by path or shown address."""
    links = "".join(f'<a href="{path}">x</a>' for path in answers)
    with open_raw_site({"/": build_response(links + LONG), **answers}) as site:
        config = ScrapeConfig(
            as_of=NOW,
            seeds=[f"{site.url}/"],
            allow_private=True,
            delay_seconds=0,
            retries=0,
            max_failed_share=1,
            shards=1,
        )
        work = Workdir.temporary(folder)
        rows = ledger_rows(work, scrape(config, work))
        return {row["url"].removeprefix(site.url): row for row in rows}


SHOWN = ["201 Created", "202 Accepted", "206 Partial Content", "226 IM Used", "218 This is fine"]


@pytest.mark.parametrize("status", SHOWN)
def test_a_page_of_any_success_is_kept(tmp_path: Path, status: str) -> None:
    row = crawl({"/p": build_response(words("shown"), status=status)}, tmp_path)["/p"]
    assert row["reason"] == ""
    assert row["note"] == f"sent as HTTP {status[:3]}"


@pytest.mark.parametrize(
    ("content_range", "reason", "note"),
    [
        ("bytes 0-{last}/{size}", "", "sent as HTTP 206"),
        ("bytes 0-{last}/*", "", "sent as HTTP 206"),
        ("bytes 0-{last}/9999", "", "bytes 0 to {last} of 9999 came; sent as HTTP 206"),
        ("bytes 500-999/9999", "HTTP 206: bytes 500 to 999 of 9999 came", ""),
        ("rows 1-2/3", "", "sent as HTTP 206"),
    ],
)
def test_a_part_that_nobody_asked_for(
    tmp_path: Path, content_range: str, reason: str, note: str
) -> None:
    body = words("part")
    sizes = {"last": len(body) - 1, "size": len(body)}
    header = f"Content-Range: {content_range.format(**sizes)}"
    row = crawl({"/p": build_response(body, header, status="206 Partial Content")}, tmp_path)["/p"]
    assert (row["reason"], row["note"]) == (reason, note.format(**sizes))


def test_statuses_without_a_page_are_none(tmp_path: Path) -> None:
    statuses = ["204 No Content", "205 Reset Content", "404 Not Found", "304 Not Modified"]
    answers: dict[str, Answer] = {
        f"/{status[:3]}": build_response(words("not shown"), status=status) for status in statuses
    }
    rows = crawl(answers, tmp_path)
    assert {rows[path]["reason"] for path in answers} == {f"HTTP {path[1:]}" for path in answers}


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (
            "http://me:secret@a.example/x",
            "redirects to http://***@a.example/x, which is not followed: an address with a login",
        ),
        (
            "//me@a.example/x",
            "redirects to http://***@a.example/x, which is not followed: an address with a login",
        ),
        (
            "mailto:me@a.example",
            "redirects to mailto:, which is not followed: no page: a mailto: link",
        ),
        ("http://[bad/", "redirects to http://[bad/, which is not followed: not a valid address"),
        (
            f"/{'x' * 3000}",
            "which is not followed: an address of more than 2000 characters",
        ),
    ],
)
def test_a_redirect_that_cannot_be_followed_says_why(
    tmp_path: Path, location: str, reason: str
) -> None:
    answer = build_response("", f"Location: {location}", status="302 Found")
    row = crawl({"/p": answer}, tmp_path)["/p"]
    assert row["reason"].endswith(reason)
    assert "secret" not in str(row)


@pytest.mark.parametrize(
    "answer",
    [
        build_response(words("in"), "Refresh: 5; url=http://me:secret@a.example/x"),
        build_response(
            '<meta http-equiv="refresh" content="0;url=http://me:secret@a.example/x">' + words("in")
        ),
    ],
)
def test_a_refresh_that_cannot_be_followed_has_a_line(tmp_path: Path, answer: bytes) -> None:
    rows = crawl({"/p": answer}, tmp_path)
    assert rows["/p"]["reason"] == ""
    assert rows["http://***@a.example/x"]["reason"] == "an address with a login"
    assert "secret" not in str(rows)


@pytest.mark.parametrize(
    ("status", "forbids"), [(200, True), (203, True), (206, True), (202, True), (204, False)]
)
def test_robots_rules_of_any_success_count(status: int, forbids: bool) -> None:
    async def fetch_text(url: str, limit: int) -> FetchResult:
        body = b"" if status == 204 else b"User-agent: *\nDisallow: /\n"
        return FetchResult(status, "" if body else f"HTTP {status}", body)

    rules = asyncio.run(fetch_robots_rules("http://a.example/", fetch_text, "modelmill"))
    assert rules.forbids_url("http://a.example/x", "modelmill") == forbids
