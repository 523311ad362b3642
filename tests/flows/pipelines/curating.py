"""The real chain from a user's files to the kept corpus, as plain functions, for tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.clean.boilerplate.score import BoilerplateConfig, score_boilerplate
from components.clean.boilerplate.train_classifier import ClassifierConfig, train_classifier
from components.clean.contamination.score import ContaminationConfig, score_contamination
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.clean.language.score import LanguageConfig, score_language
from components.clean.language.train_languages import LanguageModelConfig, train_languages
from components.clean.licence.score import LicenceConfig, score_licence
from components.clean.passages.score import PassagesConfig, score_passages
from components.clean.pii.score import PiiConfig, score_pii
from components.clean.quality.score import QualityConfig, score_quality
from components.clean.select import select
from components.clean.site_lines.score import SiteLinesConfig, score_site_lines
from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.extract import ExtractConfig, extract
from components.collect.scrape import scrape
from components.collect.scrape_config import ScrapeConfig
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shard, read_shards
from components.core.store.workdir import Workdir
from flows.configs.text_run import TextSelectConfig

NOW = "2026-01-01T00:00:00Z"


@dataclass(frozen=True)
class Curated:
    """What came of the files, by the address of each page."""

    corpus: Corpus
    kept: Mapping[str, dict[str, Any]]
    ledger: Mapping[str, dict[str, Any]]
    """Of select: a row for each document."""
    aside: Mapping[str, str]
    """Pages that gave no document -> why, of scrape and extract."""


def curate(root: Path, files: list[str], **given: Any) -> Curated:
    """Scrape ``files``, extract, score all there is to score, select; below ``root``.

    ``given`` overrides fields: ``scrape={"max_bytes": 10}``, ``extract={...}``, ``select={...}``.
    """

    def work() -> Workdir:
        return Workdir.temporary(root)

    wanted = ScrapeConfig(files=files, **given.get("scrape", {}))
    pages = scrape(resolve_crawl(wanted, [], False, NOW), work())
    raw = extract(ExtractConfig(**given.get("extract", {})), pages, work())
    classifier = train_classifier(ClassifierConfig(), raw, work())
    languages = train_languages(LanguageModelConfig(), work())
    scores = {
        "language": score_language(LanguageConfig(), raw, languages, work()),
        "quality": score_quality(QualityConfig(), raw, work()),
        "pii": score_pii(PiiConfig(), raw, work()),
        "duplicates": score_duplicates(DuplicatesConfig(), raw, work()),
        "passages": score_passages(PassagesConfig(), raw, work()),
        "boilerplate": score_boilerplate(BoilerplateConfig(), raw, classifier, work()),
        "site_lines": score_site_lines(SiteLinesConfig(), raw, work()),
        "contamination": score_contamination(ContaminationConfig(), raw, work()),
        "licence": score_licence(LicenceConfig(), raw, work()),
    }
    chosen = select(TextSelectConfig(**given.get("select", {})), raw, scores, work())
    at = work().artifact_folder
    refused = read_shard(at(raw) / "quarantine.parquet").to_pylist()
    fetched = read_shard(at(pages) / "ledger.parquet").to_pylist()
    aside = {row["url"]: row["reason"] for row in [*fetched, *refused] if row["reason"]}
    return Curated(
        chosen,
        {row["url"]: row for row in read_shards(at(chosen)).to_pylist()},
        {row["url"]: row for row in read_shards(at(chosen) / "ledger").to_pylist()},
        aside,
    )
