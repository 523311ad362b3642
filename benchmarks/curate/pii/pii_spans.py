"""Precision and recall by span of personal data with a fixed format.

Data: sentences of presidio-research with labelled spans. A found span is right where its first and
last character and its kind equal those of a labelled span. Names, places, organisations, titles and
dates have no fixed format and are left out, as are addresses of web sites, which are not personal.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.core.stats.figures import proportion_interval
from components.text.pii.find_pii import find_pii_spans
from components.text.spans import EXAMPLE_SUFFIX, Span

DATA = "pii/generated_large.json"
KIND_OF = {
    "EMAIL_ADDRESS": "email",
    "PHONE_NUMBER": "phone",
    "CREDIT_CARD": "card",
    "IBAN_CODE": "iban",
    "IP_ADDRESS": "ip",
    "US_SSN": "national_id",
    "US_DRIVER_LICENSE": "national_id",
}
MIN_SHARE = 0.95
MIN_OVERLAP = 0.5
"""Intersection over union from which a span counts as found by overlap."""


def measure_pii(setting: BenchSetting) -> list[BenchFigure]:
    """Precision and recall by exact span, recall by overlap; errors by kind in the notes."""
    path = setting.find_reference(DATA)
    if path is None:
        return [
            BenchFigure.unavailable("PII: precision and recall", "", f"no reference data {DATA}")
        ]
    exact, overlapping = Counter[str](), Counter[str]()
    for sentence in json.loads(path.read_text(encoding="utf-8")):
        true_spans = set(_true_spans(sentence))
        our_spans = {
            span._replace(kind=span.kind.removesuffix(EXAMPLE_SUFFIX))
            for span in find_pii_spans(sentence["full_text"])
        }
        exact.update(
            wanted=len(true_spans), found=len(our_spans), right=len(true_spans & our_spans)
        )
        exact.update(f"missed {span.kind}" for span in true_spans - our_spans)
        exact.update(f"wrong {span.kind}" for span in our_spans - true_spans)
        overlapping.update(
            right=sum(any(_overlap(span, other) for other in our_spans) for span in true_spans)
        )
    errors = ", ".join(f"{name} {count}" for name, count in sorted(exact.items()) if " " in name)
    return [
        _share_figure("PII: precision by exact span", exact["right"], exact["found"], errors),
        _share_figure("PII: recall by exact span", exact["right"], exact["wanted"], errors),
        _share_figure(
            f"PII: recall by overlap (intersection over union {MIN_OVERLAP:g} or more)",
            overlapping["right"],
            exact["wanted"],
            "",
        ),
    ]


def _true_spans(sentence: dict[str, Any]) -> Iterator[Span]:
    for span in sentence["spans"]:
        if span["entity_type"] in KIND_OF:
            kind = KIND_OF[span["entity_type"]]
            yield Span(span["start_position"], span["end_position"], kind)


def _overlap(left: Span, right: Span) -> bool:
    common = min(left.end, right.end) - max(left.start, right.start)
    union = max(left.end, right.end) - min(left.start, right.start)
    return left.kind == right.kind and common >= MIN_OVERLAP * union


def _share_figure(name: str, right: int, total: int, errors: str) -> BenchFigure:
    figure = proportion_interval(right, max(1, total))
    note = f"[{figure.low:.4f}, {figure.high:.4f}] of {total} spans"
    return BenchFigure.against_target(
        name,
        figure.value,
        "",
        MIN_SHARE,
        better="higher",
        note=f"{note}; {errors}" if errors else note,
    )
