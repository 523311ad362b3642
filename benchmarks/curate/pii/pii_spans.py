"""How many spans of personal data with a form of their own are found, and how many are right.

Data: sentences of presidio-research with spans. A found span is right where it has the same first
and last character and the same kind as one in the data; each span of the data is found once.
Names, places, organisations, titles and dates have no form of their own and are left out, as are
the addresses of web sites, which are nobody's data.
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
DEMANDED = 0.95
NEARLY = 0.5


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """Precision and recall by span, over all kinds; what is missing, by kind."""
    path = setting.find_reference(DATA)
    if path is None:
        return [
            BenchFigure.unavailable("PII: precision and recall", "", f"no reference data {DATA}")
        ]
    exact, nearly = Counter[str](), Counter[str]()
    for sentence in json.loads(path.read_text(encoding="utf-8")):
        wanted = set(_wanted(sentence))
        found = {
            span._replace(kind=span.kind.removesuffix(EXAMPLE_SUFFIX))
            for span in find_pii_spans(sentence["full_text"])
        }
        exact.update(wanted=len(wanted), found=len(found), right=len(wanted & found))
        exact.update(f"missed {span.kind}" for span in wanted - found)
        exact.update(f"wrong {span.kind}" for span in found - wanted)
        nearly.update(right=sum(any(_meet(one, other) for other in found) for one in wanted))
    amiss = ", ".join(f"{name} {count}" for name, count in sorted(exact.items()) if " " in name)
    return [
        _share("PII: precision by exact span", exact["right"], exact["found"], amiss),
        _share("PII: recall by exact span", exact["right"], exact["wanted"], amiss),
        _share(
            f"PII: recall by overlap (intersection over union {NEARLY:g} or more)",
            nearly["right"],
            exact["wanted"],
            "",
        ),
    ]


def _wanted(sentence: dict[str, Any]) -> Iterator[Span]:
    for span in sentence["spans"]:
        if span["entity_type"] in KIND_OF:
            kind = KIND_OF[span["entity_type"]]
            yield Span(span["start_position"], span["end_position"], kind)


def _meet(one: Span, other: Span) -> bool:
    common = min(one.end, other.end) - max(one.start, other.start)
    union = max(one.end, other.end) - min(one.start, other.start)
    return one.kind == other.kind and common >= NEARLY * union


def _share(name: str, right: int, of: int, amiss: str) -> BenchFigure:
    figure = proportion_interval(right, max(1, of))
    note = f"[{figure.low:.4f}, {figure.high:.4f}] of {of} spans"
    return BenchFigure.against_target(
        name,
        figure.value,
        "",
        DEMANDED,
        better="higher",
        note=f"{note}; {amiss}" if amiss else note,
    )
