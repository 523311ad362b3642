"""Throughput of every stage from WARC to selected corpus on one core, and its scaling exponent.

Growth is measured on pages of the embedded documentation site, rendered here; speed beside
datatrove on the real pages of the reference data, with the steps that both have. Every stage runs
in this process, one after another, as a run on one core would; seconds are of processor time, which
others on the machine disturb less.
"""

from __future__ import annotations

import gzip
import hashlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
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
from components.core.store.artifact import Artifact, Corpus, Pages, Scores
from components.core.store.workdir import Workdir
from flows.configs.text_run import TextSelectConfig

FEW, MANY = 60, 600
"""Pages of the small and the large run; the exponent is fitted between them."""
NAME = "WARC to selected corpus, end to end"
MAX_EXPONENT = 1.05
"""Linear time, with a margin for the noise of two short runs."""
LEAST_SPEEDUP, LEAST_SPEEDUP_WITH_EXTRACTION = 3.0, 1.5
"""Times datatrove's speed over the steps after extraction, and over all of them."""
_SHARDS = 4
_REFERENCE_PAGES = ("extraction", "extraction-web")

A = TypeVar("A", bound=Artifact)


@dataclass
class StageClock:
    """Runs stages in a scratch folder, and keeps the seconds of processor time of each."""

    root: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, component: Callable[..., A], config: object, **inputs: Any) -> A:
        """Run one stage; returns its artifact.

        Args:
            component: function of the stage.
            config: its config.
            inputs: its input artifacts, by role.
        """
        began = time.process_time()
        artifact = component(config, **inputs, work=Workdir.temporary(self.root))
        self.seconds[component.__name__] = time.process_time() - began
        return artifact

    def seal_crawl(self, pages: list[WebPage]) -> tuple[Path, Pages]:
        """Folder and artifact of a crawl with these pages; the clock does not run."""
        crawl = Workdir.temporary(self.root)
        write_shards(crawl.folder, pages, _SHARDS, "2026-01-01T00:00:00Z")
        sealed = crawl.seal(Pages)
        return crawl.artifact_folder(sealed), sealed


def measure_chain(setting: BenchSetting) -> list[BenchFigure]:
    """Growth of the whole chain's time, and the speed of its steps beside datatrove's."""
    return [*_measure_growth(setting), *_measure_beside_datatrove(setting)]


def _measure_growth(setting: BenchSetting) -> list[BenchFigure]:
    """Megabytes a second, and the exponent of time over input at ten times the pages."""
    pages = list(_render_pages(MANY))
    if len(pages) < MANY:
        return [
            BenchFigure.unavailable(NAME, "MB/s/core", f"only {len(pages)} pages could be rendered")
        ]
    _time_whole_chain(setting, pages[:FEW])  # imports and kernels are loaded once
    sets = pages[:: MANY // FEW], pages
    few, many = (_time_whole_chain(setting, chosen) for chosen in sets)
    few_megabytes, megabytes = map(_megabytes, sets)
    exponent = math.log(many / few) / math.log(megabytes / few_megabytes)
    return [
        BenchFigure(
            NAME, megabytes / many, "MB/s/core", better="higher", note=f"HTML of {MANY} pages"
        ),
        BenchFigure.against_target(
            f"{NAME}: growth of time, input to the power of",
            exponent,
            "",
            MAX_EXPONENT,
            note=f"({few_megabytes:.1f} MB: {few:.1f} s, {megabytes:.1f} MB: {many:.1f} s)",
        ),
    ]


def _measure_beside_datatrove(setting: BenchSetting) -> list[BenchFigure]:
    """Speed over language, quality, personal data and duplicates, without extraction and with."""
    pages = list(_read_reference_pages(setting))
    if not pages:
        return [BenchFigure.unavailable(f"{NAME}, beside datatrove", "×", "no reference data")]
    setting.on_progress(f"chain: {len(pages)} real pages")
    clock = StageClock(setting.scratch)
    folder, crawled = clock.seal_crawl(pages)
    raw = clock.run(extract, ExtractConfig(), pages=crawled)
    selected = clock.run(select, TextSelectConfig(), corpus=raw, scores=_score_common(clock, raw))
    spent = "; ".join(f"{name} {seconds:.1f} s" for name, seconds in clock.seconds.items())
    setting.on_progress(f"chain: {spent}")
    setting.on_progress("chain: the same pages by datatrove")
    peer = setting.run_peer(
        "datatrove_chain", "datatrove", str(folder), str(setting.scratch / "datatrove")
    )
    extraction = clock.seconds["extract"]
    selection = sum(clock.seconds.values()) - extraction
    kept = [f"{selected.stats['kept']:,.0f}", *([f"{peer['kept']:,}"] if peer else [])]
    note = f"{len(pages)} real pages; kept: {' and '.join(kept)} documents"
    text = raw.stats["characters"] / 1e6
    return [
        _beside_datatrove(
            "without extraction, of text",
            text / selection,
            peer and peer["text_megabytes"] / peer["selection"],
            LEAST_SPEEDUP,
            note,
        ),
        _beside_datatrove(
            "with extraction, of HTML",
            _megabytes(pages) / (extraction + selection),
            peer and peer["html_megabytes"] / (peer["extraction"] + peer["selection"]),
            LEAST_SPEEDUP_WITH_EXTRACTION,
            note,
        ),
    ]


def _beside_datatrove(
    label: str, rate: float, peer_rate: float | None, least: float, note: str
) -> BenchFigure:
    """The figure of one set of steps; each tool's megabytes are those that it read itself.

    Args:
        label: ending of its name.
        rate: megabytes a second.
        peer_rate: the same of datatrove; None where it is not installed.
        least: ratio of the two that is asked for.
        note: what went in and came out.
    """
    figure = BenchFigure.beside_peer(
        f"{NAME}, {label}",
        rate,
        "MB/s/core",
        "datatrove",
        peer_rate,
        must_win=False,
        better="higher",
        note=note,
    )
    if peer_rate is None:
        return figure
    return replace(figure, target=least * peer_rate, holds=rate >= least * peer_rate)


def _score_common(clock: StageClock, raw: Corpus) -> dict[str, Scores]:
    """Scores of the steps that datatrove has too."""
    languages = clock.run(train_languages, LanguageModelConfig())
    return {
        "language": clock.run(score_language, LanguageConfig(), corpus=raw, languages=languages),
        "quality": clock.run(score_quality, QualityConfig(), corpus=raw),
        "pii": clock.run(score_pii, PiiConfig(), corpus=raw),
        "duplicates": clock.run(score_duplicates, DuplicatesConfig(), corpus=raw),
    }


def _time_whole_chain(setting: BenchSetting, pages: list[WebPage]) -> float:
    """Seconds of every stage of a run's first half, on these pages."""
    clock = StageClock(setting.scratch)
    _, crawled = clock.seal_crawl(pages)
    raw = clock.run(extract, ExtractConfig(), pages=crawled)
    classifier = clock.run(train_classifier, ClassifierConfig(), corpus=raw)
    scores = _score_common(clock, raw) | {
        "passages": clock.run(score_passages, PassagesConfig(), corpus=raw),
        "boilerplate": clock.run(
            score_boilerplate, BoilerplateConfig(), corpus=raw, classifier=classifier
        ),
        "site_lines": clock.run(score_site_lines, SiteLinesConfig(), corpus=raw),
    }
    clock.run(select, TextSelectConfig(), corpus=raw, scores=scores)
    return sum(clock.seconds.values())


def _megabytes(pages: list[WebPage]) -> float:
    return sum(len(page.body) for page in pages) / 1e6


def _render_pages(count: int) -> Iterator[WebPage]:
    """The first pages of the site, in the order of its sitemap."""
    with DocumentationSite(SiteConfig()) as site:
        for name in site.modules:
            status, kind, text = site.build_response(f"/{name}.html")
            if status == 200:
                yield _web_page(f"https://docs.example/{name}.html", text.encode(), kind)
                count -= 1
            if not count:
                return


def _read_reference_pages(setting: BenchSetting) -> Iterator[WebPage]:
    """All pages of the sets of the reference data that are there, a host of its own for each."""
    for name in _REFERENCE_PAGES:
        folder = setting.find_reference(name)
        for path in sorted((folder / "html").glob("*.html.gz")) if folder else ():
            page = path.name.removesuffix(".html.gz")
            url = f"https://{hashlib.sha256(page.encode()).hexdigest()[:16]}.example/"
            yield _web_page(url, gzip.decompress(path.read_bytes()), "text/html")


def _web_page(url: str, body: bytes, kind: str) -> WebPage:
    headers = (("content-type", kind),)  # datatrove reads responses only
    return WebPage(url, body, kind, hashlib.sha256(body).hexdigest(), headers)
