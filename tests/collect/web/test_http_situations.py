"""HTTP as servers send it: a crawl of the situations that bug reports describe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from benchmarks.curate.web.http_situations import (
    Situation,
    situation_answers,
)
from benchmarks.curate.web.raw_site import RawSite, open_raw_site
from benchmarks.curate.web.situations_read import list_situations
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.store.workdir import Workdir
from tests.collect.crawling import NOW, ledger, stored

SITUATIONS = list_situations()


class Crawled(NamedTuple):
    """One crawl of all situations."""

    site: RawSite
    rows: dict[str, dict[str, Any]]
    texts: list[str]


@pytest.fixture(scope="module")
def crawled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    folder: Path = tmp_path_factory.mktemp("situations")
    with open_raw_site(situation_answers(SITUATIONS)) as site:
        config = ScrapeConfig(
            as_of=NOW,
            seeds=[f"{site.url}/"],
            allow_private=True,
            delay_seconds=0,
            retries=1,
            backoff_seconds=0.01,
            max_bytes=1_000_000,
            max_failed_share=1,
            shards=1,
        )
        work = Workdir.temporary(folder)
        pages = scrape(config, work)
        texts = [
            page.body.decode("utf-16-le" if b"<\0" in page.body else "utf-8", errors="replace")
            for page in stored(work, pages).values()
        ]
        yield Crawled(site, ledger(work, pages), texts)


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda s: s.name)
def test_situation_is_read_or_has_a_reason(crawled: Crawled, situation: Situation) -> None:
    row = crawled.rows[situation.target[1:]]
    is_read = any(situation.word in text for text in crawled.texts)
    if situation.reason:
        assert situation.reason in row["reason"]
        assert not is_read
    else:
        assert is_read, row["reason"]
        assert situation.note in row["note"]
        assert bool(situation.note) == bool(row["note"])
