"""Fields of a crawl that its pages depend on, and those that they do not."""

from __future__ import annotations

from typing import Any

import pytest

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.scrape_config import ScrapeConfig
from tests.collect.crawling import NOW

LATER = "2026-11-08T00:00:00Z"
WEB = ScrapeConfig(seeds=["https://a.example/"])
PACE: dict[str, Any] = {
    "delay_seconds": 0.5,
    "concurrency": 2,
    "retries": 7,
    "backoff_seconds": 2,
    "connect_seconds": 5,
    "read_seconds": 5,
    "page_seconds": 30,
    "max_failed_share": 0.5,
}


def changed(config: ScrapeConfig, **fields: Any) -> ScrapeConfig:
    return ScrapeConfig.model_validate(config.model_dump() | fields)


@pytest.mark.parametrize("field", PACE)
def test_pace_is_no_part_of_the_key(field: str) -> None:
    assert changed(WEB, **{field: PACE[field]}).key_fields() == WEB.key_fields()


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (WEB, {"embedded": {"packages": ["stdlib"]}}),
        (WEB, {"sources": "web"}),
        (WEB, {"files": ["*.md"], "sources": "web"}),
        (ScrapeConfig(), {"seeds": ["https://a.example/"], "sources": "embedded"}),
        (ScrapeConfig(), {"hosts": ["b.example"]}),
        (ScrapeConfig(files=["*.md"]), {"max_pages": 7, "embedded": {"packages": ["stdlib"]}}),
    ],
)
def test_fields_of_another_source_are_no_part_of_the_key(
    config: ScrapeConfig, fields: dict[str, Any]
) -> None:
    assert changed(config, **fields).key_fields() == config.key_fields()


@pytest.mark.parametrize(
    "fields",
    [
        {"seeds": ["https://b.example/"]},
        {"hosts": ["b.example"]},
        {"max_pages": 7},
        {"max_depth": 2},
        {"max_bytes": 1000},
        {"user_agent": "acmebot"},
        {"blocklist": ["b.example"]},
        {"shards": 3},
        {"as_of": LATER},
    ],
)
def test_other_fields_are_part_of_the_key(fields: dict[str, Any]) -> None:
    assert changed(WEB, **fields).key_fields() != WEB.key_fields()


def test_a_crawl_stands_for_one_at_another_pace() -> None:
    sealed = {
        "config": changed(WEB, as_of=NOW, embedded={"packages": ["stdlib"]}).model_dump(
            mode="json"
        ),
        "artifact": {"name": f"sealed/{'1' * 64}"},
    }
    patient = changed(WEB, **PACE)
    assert resolve_crawl(patient, [sealed], False, LATER) == changed(patient, as_of=NOW)
    assert resolve_crawl(patient, [sealed], True, LATER).previous == "1" * 64
    deeper = resolve_crawl(changed(patient, max_depth=3), [sealed], False, LATER)
    assert (deeper.as_of, deeper.previous) == (LATER, "")


def test_a_record_of_unknown_fields_stands_for_nothing() -> None:
    record = {"config": {**WEB.model_dump(mode="json"), "gone": 1, "as_of": NOW}}
    assert resolve_crawl(WEB, [record], False, LATER).as_of == LATER
