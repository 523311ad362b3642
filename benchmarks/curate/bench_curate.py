"""Parts of ``modelmill bench curate`` in order, pinned to one core."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench_report import BenchFigure, BenchReport, describe_machine
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate import (
    curation_chain,
    language_detection,
    planted_contamination,
    quality_ranking,
    statistics_speed,
)
from benchmarks.curate.crawl import killed_crawls
from benchmarks.curate.dedup import (
    altered_copies,
    million_documents,
    minhash_signatures,
    planted_duplicates,
)
from benchmarks.curate.extraction import code_verbatim, main_text_f1
from benchmarks.curate.pii import judged_manuals, pii_spans, planted_credentials
from benchmarks.curate.rows import rows_read
from benchmarks.curate.web import charsets_read, situations_read
from components.core.errors import ConfigError
from components.core.settings import Settings

NAME = "curate"
PARTS: Mapping[str, Callable[[BenchSetting], list[BenchFigure]]] = {
    "web": lambda setting: [
        *situations_read.measure_web(setting),
        *charsets_read.measure_charsets(setting),
    ],
    "crawl": killed_crawls.measure_killed_crawls,
    "rows": rows_read.measure_rows,
    "extraction": main_text_f1.measure_extraction,
    "code": code_verbatim.measure_code_blocks,
    "statistics": statistics_speed.measure_statistics,
    "signatures": minhash_signatures.measure_signatures,
    "duplicates": planted_duplicates.measure_duplicates,
    "altered": altered_copies.measure_altered_copies,
    "scale": million_documents.measure_scale,
    "pii": pii_spans.measure_pii,
    "manuals": judged_manuals.measure_manuals,
    "secrets": planted_credentials.measure_credentials,
    "quality": quality_ranking.measure_quality_ranking,
    "language": language_detection.measure_languages,
    "contamination": planted_contamination.measure_contamination,
    "chain": curation_chain.measure_chain,
}


def bench_curate(
    settings: Settings, only: Sequence[str], repeats: int, on_progress: Callable[[str], None]
) -> BenchReport:
    """Measure the parts of collecting and cleaning.

    Args:
        settings: the workspace, and where reference data and peers lie.
        only: names of ``PARTS``; empty for all.
        repeats: measurements of which the median is reported.
        on_progress: called with a line a part.

    Raises:
        ConfigError: there is no such part.
        MillError: the program of a peer failed.
    """
    unknown = sorted(set(only) - PARTS.keys())
    if unknown:
        raise ConfigError(f"bench curate: no part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    machine, figures = describe_machine(), list[BenchFigure]()
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder, _pin_to_one_core():
        for name in only or PARTS:
            on_progress(name)
            scratch = Path(folder) / name
            scratch.mkdir()
            figures += PARTS[name](BenchSetting(settings, scratch, repeats, on_progress))
    return BenchReport(NAME, machine, figures)


@contextmanager
def _pin_to_one_core() -> Iterator[None]:
    """Restrict this process and its children to one core, where the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
