"""Another policy of opt-outs over the same crawl: judged again from the ledger, not crawled again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.optouts.optout_policy import OptoutConfig
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.cdxj_index import INDEX_FILE, CdxjIndex
from components.core.store.artifact import Lineage, Pages
from components.core.store.workdir import Workdir
from tests.collect.crawling import (
    LONG,
    NOW,
    TEXT,
    asked,
    config,
    ledger,
    start_crawl,
    stored,
    unasked,
    words,
)

LATER = "2026-11-09T00:00:00Z"
HTML = {"Content-Type": "text/html"}
HONOUR, RECORD = OptoutConfig(), OptoutConfig(policy="record")
KEYS = ("1" * 64, "2" * 64, "3" * 64)
Run = Callable[..., tuple[ScrapeConfig, Workdir, Pages]]


@pytest.fixture
def run(web: Any, tmp_path: Path) -> Run:
    """Scrape under a policy as a run does, with what the runs before it left; counts anew."""
    records: list[dict[str, Any]] = []

    def go(optouts: OptoutConfig, now: str = NOW, **fields: Any) -> Any:
        web.requests.clear()
        crawl = resolve_crawl(config(web, as_of="", optouts=optouts, **fields), records, False, now)
        key = KEYS[len(records)]
        work = Workdir(tmp_path, key, Lineage(component="c", code="", config=""))
        pages = scrape(crawl, work)
        name = {"name": f"sealed/{key}"}
        records.append({"config": crawl.model_dump(mode="json"), "artifact": name})
        return crawl, work, pages

    return go


@pytest.fixture
def site(web: Any) -> Any:
    """Pages of which one is closed to a robot for training, and one says no itself."""
    web.pages |= {
        "/robots.txt": (200, TEXT, b"User-agent: CCBot\nDisallow: /closed\n"),
        "/": "".join(f'<a href="/{name}">x</a>' for name in ("closed", "noai", "open", "cc"))
        + words("home"),
        "/closed": '<a href="/behind">x</a><a href="/open">x</a>' + words("closed"),
        "/behind": words("behind"),
        "/noai": (200, {**HTML, "X-Robots-Tag": "noai"}, words("noai").encode()),
        "/open": words("open"),
        "/cc": '<link rel="license" href="https://creativecommons.org/licenses/by-nc/4.0/">'
        + words("licensed"),
    }
    return web


def test_from_record_to_honour_nothing_is_asked(site: Any, run: Run) -> None:
    _, work, recorded = run(RECORD)
    assert set(asked(site)) == {"/", "/closed", "/behind", "/noai", "/open", "/cc"}
    before = ledger(work, recorded)
    crawl, again, honoured = run(HONOUR, now=LATER)
    assert site.requests == []
    assert (crawl.as_of, crawl.repeats, crawl.asked_again) == (NOW, KEYS[0], "")
    after = ledger(again, honoured)
    assert after["closed"]["reason"].startswith("opted out: robots-agent: CCBot")
    assert after["noai"]["reason"].startswith("opted out: noai")
    assert {name for name, row in after.items() if not row["reason"]} == {
        "",
        "behind",
        "open",
        "cc",
    }
    # The words, their place and their date stay as they were heard.
    assert {n: r["optouts"] for n, r in after.items()} == {
        n: r["optouts"] for n, r in before.items()
    }
    assert after["noai"]["optouts"][0]["evidence"] == "X-Robots-Tag: noai"
    assert after["noai"]["optouts"][0]["date"] == NOW
    assert f"{site.url}/noai" not in stored(again, honoured)
    assert f"{site.url}/open" in stored(again, honoured)
    assert (
        CdxjIndex(again.artifact_folder(honoured) / INDEX_FILE).find_captures(f"{site.url}/noai")
        == []
    )
    assert honoured.stats["opted_out"] == 2
    assert honoured.stats["pages"] == 4


def test_from_honour_to_record_only_what_was_left_out_is_asked(site: Any, run: Run) -> None:
    _, work, honoured = run(HONOUR)
    assert "/closed" not in site.requests
    kept = stored(work, honoured)
    crawl, again, recorded = run(RECORD, now=LATER)
    assert (crawl.repeats, crawl.as_of, crawl.asked_again) == (KEYS[0], NOW, LATER)
    # ``/behind`` is what one of them leads to; that one leads to ``/open`` too, which is there.
    assert sorted(asked(site)) == ["/behind", "/closed", "/noai"]
    rows = ledger(again, recorded)
    assert {row["reason"] for row in rows.values()} == {""}
    assert rows["closed"]["optouts"][0]["verdict"] == "denied"
    assert rows["closed"]["optouts"][0]["date"] == LATER
    assert (rows["closed"]["depth"], rows["behind"]["depth"]) == (1, 2)
    found = stored(again, recorded)
    assert {url: found[url] for url in kept} == kept
    assert found[f"{site.url}/closed"].date == LATER
    assert found[f"{site.url}/open"].date == NOW
    assert (
        len(
            CdxjIndex(again.artifact_folder(recorded) / INDEX_FILE).find_captures(
                f"{site.url}/closed"
            )
        )
        == 1
    )
    assert recorded.stats["pages"] == 6


def test_back_again_is_the_first_crawl(site: Any, run: Run) -> None:
    first, _, _ = run(HONOUR)
    run(RECORD, now=LATER)
    crawl, _, _ = run(HONOUR, now=LATER)
    assert crawl == first


def test_a_budget_holds_over_both_crawls(site: Any, run: Run) -> None:
    run(HONOUR, max_pages=5)
    run(RECORD, max_pages=5)
    assert sorted(asked(site)) == ["/closed", "/noai"]  # five addresses came up before


def test_a_depth_holds_over_both_crawls(site: Any, run: Run) -> None:
    run(HONOUR, max_depth=1)
    run(RECORD, max_depth=1)
    assert sorted(asked(site)) == ["/closed", "/noai"]


def test_a_licence_that_is_refused_from_now_on(site: Any, run: Run) -> None:
    run(HONOUR)
    strict = OptoutConfig(refused_licences=["cc-by-nc-*"])
    _, work, pages = run(strict, now=LATER)
    assert site.requests == []
    row = ledger(work, pages)["cc"]
    assert row["reason"] == f"opted out: licence: cc-by-nc-4.0 ({site.url}/cc)"
    assert [signal["verdict"] for signal in row["optouts"]] == ["denied"]


def test_a_licence_that_is_refused_no_more(site: Any, run: Run) -> None:
    run(OptoutConfig(refused_licences=["cc-by-nc-*"]))
    _, work, pages = run(HONOUR, now=LATER)
    assert asked(site) == ["/cc"]
    assert ledger(work, pages)["cc"]["reason"] == ""


def test_other_robots_are_heard_by_a_crawl_alone(site: Any, run: Run) -> None:
    run(HONOUR)
    crawl, _, _ = run(OptoutConfig(agents=["NewBot"]), now=LATER)
    assert (crawl.repeats, crawl.as_of) == ("", LATER)


def test_killed_while_it_asks_again(site: Any, run: Run, tmp_path: Path) -> None:
    """What was stored before the kill is not asked for once more."""
    run(HONOUR)
    again = config(site, optouts=RECORD, repeats=KEYS[0], asked_again=LATER, concurrency=1)
    site.requests.clear()
    process = start_crawl(tmp_path, again, KEYS[1])

    def die(path: str) -> None:
        if path == "/behind":
            process.kill()

    site.noticed = die
    process.communicate(timeout=60)
    site.noticed = lambda path: None
    assert start_crawl(tmp_path, again, KEYS[1]).communicate(timeout=60)[0]
    assert sorted(asked(site)) == ["/behind", "/behind", "/closed", "/noai"]


def test_a_trap_stays_closed(web: Any, run: Run) -> None:
    web.pages["/robots.txt"] = (200, TEXT, b"User-agent: CCBot\nDisallow: /closed\n")
    web.pages["/"] = '<a href="/closed">x</a><a href="/day/1">x</a>' + words("home")
    web.pages["/closed"] = '<a href="/day/90">x</a>' + words("closed")
    for day in range(1, 100):
        web.pages[f"/day/{day}"] = f'<a href="/day/{day + 1}">x</a>{LONG}'
    _, work, pages = run(HONOUR, max_barren=3, max_depth=90)
    assert any(row["reason"].startswith("a trap") for row in unasked(work, pages).values())
    run(RECORD, max_barren=3, max_depth=90)
    assert asked(web) == ["/closed"]
