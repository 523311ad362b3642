"""A crawl repeated without blocked pages: the rest to the byte, and nothing asked again."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from components.collect.crawl.fetch_ledger import BLOCKED_REASON
from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.collect.warc.page_shards import read_pages
from components.core.errors import DataError
from components.core.store.artifact import Pages
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir

NOW, BEFORE = "2026-02-01T00:00:00Z", "2026-01-01T00:00:00Z"
Again = Callable[[], Workdir]


@pytest.fixture
def crawl(tmp_path: Path, work: Workdir) -> Pages:
    """Five pages; read from files, since what is repeated does not depend on how they came."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for name in "abcde":
        (folder / f"{name}.md").write_text(f"# Page {name}\n\nIt is about {name}.")
    return scrape(
        resolve_crawl(ScrapeConfig(files=[f"{folder}/*.md"], shards=2), [], False, NOW), work
    )


def addresses(work: Workdir, pages: Pages) -> set[str]:
    archives = sorted(work.artifact_folder(pages).glob("*.warc.gz"))
    return {page.url for archive in archives for page in read_pages(archive)}


def config(crawl: Pages, *blocked: str) -> ScrapeConfig:
    key = Path(crawl.name).name.replace("key-", "").encode().hex().ljust(64, "0")[:64]
    return ScrapeConfig(seeds=["https://a.example/"], repeats=key, blocklist=list(blocked))


def under_its_key(work: Workdir, crawl: Pages, asked: ScrapeConfig) -> None:
    """A test's workdir has a short key; a run's has 64 digits."""
    link = work.root / "sealed" / asked.repeats
    if not link.exists():
        link.symlink_to(work.root / crawl.name)


def test_only_the_blocked_page_is_missing(work: Workdir, again: Again, crawl: Pages) -> None:
    asked = config(crawl, "file:///notes/b.md")
    under_its_key(work, crawl, asked)
    repeated = scrape(asked, again())
    assert addresses(work, crawl) - addresses(work, repeated) == {"file:///notes/b.md"}
    rows = read_shard(work.artifact_folder(repeated) / "ledger.parquet").to_pylist()
    reasons = {row["url"]: row["reason"] for row in rows}
    assert reasons.pop("file:///notes/b.md") == BLOCKED_REASON
    assert set(reasons.values()) == {""}
    assert repeated.stats["pages"] == 4
    for archive in work.artifact_folder(repeated).glob("*.warc.gz"):
        assert b"about b" not in gzip.decompress(archive.read_bytes())


def test_a_copied_record_is_the_record(work: Workdir, again: Again, crawl: Pages) -> None:
    asked = config(crawl, "file:///notes/b.md")
    under_its_key(work, crawl, asked)
    repeated = scrape(asked, again())
    found = {
        page.url: page
        for archive in work.artifact_folder(crawl).glob("*.warc.gz")
        for page in read_pages(archive)
    }
    for archive in work.artifact_folder(repeated).glob("*.warc.gz"):
        for page in read_pages(archive):
            assert page == found[page.url]


def test_a_crawl_without_the_page_comes_out_equal(
    work: Workdir, again: Again, crawl: Pages
) -> None:
    asked = config(crawl, "other.example")
    under_its_key(work, crawl, asked)
    assert scrape(asked, again()).digest == crawl.digest


def test_a_crawl_that_is_gone_is_one_line(work: Workdir, crawl: Pages, again: Again) -> None:
    with pytest.raises(DataError, match="is gone or damaged; crawl again with --refresh"):
        scrape(config(crawl, "x.example"), again())


def test_nothing_left_is_an_error(work: Workdir, again: Again, crawl: Pages) -> None:
    asked = config(crawl, "file:///notes")
    under_its_key(work, crawl, asked)
    with pytest.raises(DataError, match="every page"):
        scrape(asked, again())


def record(config: ScrapeConfig, key: str = "k" * 64) -> dict[str, object]:
    artifact = {"artifact": {"name": f"sealed/{key}"}} if key else {}
    return {"config": config.model_dump(mode="json"), **artifact}


WEB = ScrapeConfig(seeds=["https://a.example/"])


def longer(**changes: object) -> ScrapeConfig:
    return WEB.model_copy(update={"blocklist": ["bad.example"], **changes})


def test_a_longer_blocklist_repeats_the_crawl_instead_of_asking_again() -> None:
    before = record(WEB.model_copy(update={"as_of": BEFORE}))
    found = resolve_crawl(longer(), [before], False, NOW)
    assert (found.as_of, found.repeats) == (BEFORE, "k" * 64)
    assert resolve_crawl(longer(), [before], True, NOW).as_of == NOW  # --refresh
    assert resolve_crawl(longer(), [before], True, NOW).repeats == ""


def test_the_repeated_crawl_is_found_again() -> None:
    first = record(WEB.model_copy(update={"as_of": BEFORE}))
    repeated = longer(as_of=BEFORE, repeats="k" * 64)
    assert resolve_crawl(longer(), [record(repeated, "r" * 64), first], False, NOW) == repeated
    # Also when the crawl it came from was purged.
    assert resolve_crawl(longer(), [record(repeated, "r" * 64)], False, NOW) == repeated


def test_an_unfinished_repetition_of_a_purged_crawl_is_not_gone_on_with() -> None:
    half = record(longer(as_of=BEFORE, repeats="k" * 64), key="")
    assert resolve_crawl(longer(), [half], False, NOW) == longer(as_of=NOW)


def test_a_shorter_blocklist_or_another_date_is_another_crawl() -> None:
    before = record(longer(as_of=BEFORE))
    assert resolve_crawl(WEB, [before], False, NOW).as_of == NOW
    fixed = longer(as_of=NOW, blocklist=["bad.example", "worse.example"])
    assert resolve_crawl(fixed, [before], False, NOW).repeats == ""


def test_a_record_from_before_a_field_was_there_counts() -> None:
    before = record(WEB.model_copy(update={"as_of": BEFORE}))
    del before["config"]["repeats"]  # type: ignore[attr-defined]
    assert resolve_crawl(WEB, [before], False, NOW).as_of == BEFORE
