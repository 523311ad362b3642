"""Throughput of every stage from WARC to selected corpus on one core, and its scaling exponent.

The pages are those of the embedded documentation site, rendered here. Every stage runs in this
process, one after another, as a run on one core would.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.clean.boilerplate.score import BoilerplateConfig, score_boilerplate
from components.clean.boilerplate.train_classifier import ClassifierConfig, train_classifier
from components.clean.duplicates.score import DuplicatesConfig, score_duplicates
from components.clean.language.score import LanguageConfig, score_language
from components.clean.language.train_languages import LanguageModelConfig, train_languages
from components.clean.passages.score import PassagesConfig, score_passages
from components.clean.pii.score import PiiConfig, score_pii
from components.clean.quality.score import QualityConfig, score_quality
from components.clean.select import select
from components.clean.site_lines.score import SiteLinesConfig, score_site_lines
from components.collect.docsite.documentation_site import DocumentationSite, SiteConfig
from components.collect.extract import ExtractConfig, extract
from components.collect.warc.page_shards import WebPage, write_shards
from components.core.store.artifact import Artifact, Pages
from components.core.store.workdir import Workdir
from flows.configs.text_run import TextSelectConfig

FEW, MANY = 60, 600
"""Pages of the small and the large run; the exponent is fitted between them."""
NAME = "WARC to selected corpus, end to end"
MAX_EXPONENT = 1.05
"""Linear time, with a margin for the noise of two short runs."""
_SHARDS = 4

A = TypeVar("A", bound=Artifact)


@dataclass(frozen=True)
class ChainTiming:
    """Megabytes of HTML and seconds of all stages of one run."""

    megabytes: float
    seconds: float


def measure_chain(setting: BenchSetting) -> list[BenchFigure]:
    """Megabytes a second, and the exponent of time over input at ten times the pages."""
    pages = list(_render_pages(MANY))
    if len(pages) < MANY:
        return [
            BenchFigure.unavailable(NAME, "MB/s/core", f"only {len(pages)} pages could be rendered")
        ]
    _time_chain(setting, pages[:FEW])  # imports and kernels are loaded once
    few, many = _time_chain(setting, pages[:: MANY // FEW]), _time_chain(setting, pages)
    exponent = math.log(many.seconds / few.seconds) / math.log(many.megabytes / few.megabytes)
    note = ", ".join(f"{run.megabytes:.1f} MB: {run.seconds:.1f} s" for run in (few, many))
    rate = many.megabytes / many.seconds
    return [
        BenchFigure(NAME, rate, "MB/s/core", better="higher", note=f"HTML of {MANY} pages"),
        BenchFigure.against_target(
            f"{NAME}: growth of time, input to the power of",
            exponent,
            "",
            MAX_EXPONENT,
            note=f"({note})",
        ),
    ]


def _render_pages(count: int) -> Iterator[WebPage]:
    """The first pages of the site, in the order of its sitemap."""
    with DocumentationSite(SiteConfig()) as site:
        for name in site.modules:
            status, kind, text = site.build_response(f"/{name}.html")
            if status == 200:
                body = text.encode()
                digest = hashlib.sha256(body).hexdigest()
                yield WebPage(f"https://docs.example/{name}.html", body, kind, digest)
                count -= 1
            if not count:
                return


def _time_chain(setting: BenchSetting, pages: list[WebPage]) -> ChainTiming:
    root = setting.scratch
    crawl = Workdir.temporary(root)
    write_shards(crawl.folder, pages, _SHARDS, "2026-01-01T00:00:00Z")
    crawled = crawl.seal(Pages)

    def stage(component: Callable[..., A], config: object, **inputs: Any) -> A:
        return component(config, **inputs, work=Workdir.temporary(root))

    start = time.perf_counter()
    raw = stage(extract, ExtractConfig(), pages=crawled)
    classifier = stage(train_classifier, ClassifierConfig(), corpus=raw)
    languages = stage(train_languages, LanguageModelConfig())
    scores = {
        "language": stage(score_language, LanguageConfig(), corpus=raw, languages=languages),
        "quality": stage(score_quality, QualityConfig(), corpus=raw),
        "pii": stage(score_pii, PiiConfig(), corpus=raw),
        "duplicates": stage(score_duplicates, DuplicatesConfig(), corpus=raw),
        "passages": stage(score_passages, PassagesConfig(), corpus=raw),
        "boilerplate": stage(
            score_boilerplate, BoilerplateConfig(), corpus=raw, classifier=classifier
        ),
        "site_lines": stage(score_site_lines, SiteLinesConfig(), corpus=raw),
    }
    stage(select, TextSelectConfig(), corpus=raw, scores=scores)
    seconds = time.perf_counter() - start
    return ChainTiming(sum(len(page.body) for page in pages) / 1e6, seconds)
