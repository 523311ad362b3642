"""Precision of personal data on manuals and web pages, by spans that were judged by hand.

``judged_spans.jsonl`` holds a span a line with what stands before and behind it: those that the
detectors found in Debian's documentation packages, Python packages and web pages whose sites and
packages nobody had looked at before (``part`` unseen), at most a few of a package so that no
changelog fills the list, and look-alikes that an earlier version took for personal data. Verdicts:
``person`` (a mailbox, number, host or key of someone), ``example`` (of documentation), ``not``
(of another kind: a section, a version, a type). People's own values are replaced by others of the
same form, names and mailboxes beside them too. Faults that the list showed were mended since, so
it guards what was reached and says nothing about other manuals.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.core.stats.figures import Figure, proportion_interval
from components.text.pii.find_pii import find_pii_spans

JUDGED = Path(__file__).with_name("judged_spans.jsonl")
MIN_SHARE = 0.95


class JudgedSpan(NamedTuple):
    """A span with its surroundings, and the verdict of a reader."""

    kind: str
    source: str
    before: str
    value: str
    after: str
    verdict: str
    part: str

    def is_found(self) -> bool:
        """Tell whether the detectors take it for personal data, and not for an example."""
        start, end = len(self.before), len(self.before) + len(self.value)
        return any(
            span.kind == self.kind and span.start < end and start < span.end
            for span in find_pii_spans(self.before + self.value + self.after)
        )


def read_judged_spans() -> Iterator[JudgedSpan]:
    """Read the list in its order."""
    for line in JUDGED.read_text(encoding="utf-8").splitlines():
        yield JudgedSpan(**json.loads(line))


def measure_manuals(setting: BenchSetting) -> list[BenchFigure]:
    """Shares of what is found that is of its kind, that is someone's, and of someone's found."""
    counts = Counter((span.verdict, span.is_found()) for span in read_judged_spans())
    found = sum(number for (_, is_found), number in counts.items() if is_found)
    persons = counts["person", True] + counts["person", False]
    someones = proportion_interval(counts["person", True], max(1, found))
    return [
        _share_figure("PII on manuals: found and of its kind", found - counts["not", True], found),
        BenchFigure(
            name="PII on manuals: found and someone's (examples count as wrong)",
            value=someones.value,
            unit="",
            note=_describe(someones, found),
        ),
        _share_figure("PII on manuals: someone's and found", counts["person", True], persons),
    ]


def _share_figure(name: str, right: int, total: int) -> BenchFigure:
    figure = proportion_interval(right, max(1, total))
    return BenchFigure.against_target(
        name,
        figure.value,
        "",
        MIN_SHARE,
        better="higher",
        note=_describe(figure, total),
    )


def _describe(figure: Figure, total: int) -> str:
    return f"[{figure.low:.4f}, {figure.high:.4f}] of {total} spans, judged by hand"
