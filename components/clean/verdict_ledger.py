"""The ledger: for every document every rule's score and bound, its spans, its twin, the verdict."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from components.clean.duplicates.dedup_decision import PASSAGES, Twin
from components.clean.rules import DuplicateRules, Finding, PiiRules, SiteLineRules

RULE = pa.struct(
    [
        pa.field("rule", pa.string()),
        pa.field("score", pa.float64()),
        pa.field("at_least", pa.float64()),
        pa.field("at_most", pa.float64()),
        pa.field("passed", pa.bool_()),
    ]
)
MARKED = pa.struct(
    [
        pa.field("start", pa.int64()),  # offsets in characters of the text before redaction
        pa.field("end", pa.int64()),
        pa.field("kind", pa.string()),
        pa.field("action", pa.string()),  # redact, keep, drop or cut
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("kept", pa.bool_(), nullable=False),
        pa.field("reasons", pa.list_(pa.string()), nullable=False),  # names of failed rules
        pa.field("rules", pa.list_(RULE), nullable=False),
        pa.field("spans", pa.list_(MARKED), nullable=False),
        pa.field("twin", pa.string()),  # the kept document this one was dropped for
        pa.field("similarity", pa.float64()),
        pa.field("max_similarity", pa.float64()),  # the bound on it
        pa.field("licence", pa.string()),  # SPDX identifier of the strongest sign
        pa.field("item", pa.string()),  # the evaluation item it holds most of: file and row
    ]
)


def ledger_table(
    duplicates: DuplicateRules,
    table: pa.Table,
    scores: Mapping[str, pa.Table],
    findings: list[Finding],
    reasons: Mapping[int, list[str]],
    twins: Mapping[str, Twin],
    spans: list[list[dict[str, object]]],
) -> pa.Table:
    """One row for every document of a shard, in its order."""
    identifiers = table["id"].to_pylist()
    found = [twins.get(identifier) for identifier in identifiers]
    return pa.table(
        {
            "id": table["id"],
            "url": table["url"],
            "kept": [at not in reasons for at in range(len(table))],
            "reasons": [reasons.get(at, []) for at in range(len(table))],
            "rules": _rules(findings, len(table)),
            "spans": spans,
            "twin": [twin.id if twin else None for twin in found],
            "similarity": [twin.similarity if twin else None for twin in found],
            "max_similarity": [
                duplicates.max_contained
                if twin is not None and twin.rule == PASSAGES
                else duplicates.max_similarity
                for twin in found
            ],
            "licence": _named(scores, "licence", "licence", len(table)),
            "item": _named(scores, "contamination", "item", len(table)),
        },
        schema=SCHEMA,
    )


def _rules(findings: list[Finding], documents: int) -> pa.ListArray:
    """Findings turned from one array a rule into one list a document."""
    width = len(findings)
    offsets = np.arange(documents + 1, dtype=np.int32) * width
    columns = [
        pa.array([finding.rule for finding in findings] * documents, type=pa.string()),
        pa.array(np.stack([f.scores for f in findings], axis=1).ravel(), type=pa.float64()),
        pa.array([finding.at_least for finding in findings] * documents, type=pa.float64()),
        pa.array([finding.at_most for finding in findings] * documents, type=pa.float64()),
        pa.array(np.stack([f.passed for f in findings], axis=1).ravel(), type=pa.bool_()),
    ]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(RULE)))


def _named(
    scores: Mapping[str, pa.Table], role: str, column: str, documents: int
) -> list[str | None]:
    """A column of names; None where there is none."""
    if role not in scores:
        return [None] * documents
    return [name or None for name in scores[role][column].to_pylist()]


def marked_spans(
    pii: PiiRules, site_lines: SiteLineRules, table: pa.Table, scores: Mapping[str, pa.Table]
) -> list[list[dict[str, object]]]:
    """For every document, personal data with what happens to it, and lines that are cut."""
    marked: list[list[dict[str, object]]] = [[] for _ in range(len(table))]
    if "pii" in scores:
        for spans, found in zip(marked, scores["pii"]["spans"].to_pylist(), strict=True):
            spans += [{**span, "action": pii.action(span["kind"])} for span in found]
    if "site_lines" in scores:
        rows = scores["site_lines"].to_pylist()
        for spans, text, row in zip(marked, table["text"].to_pylist(), rows, strict=True):
            cuts = site_lines.cuts(text, row)
            spans += [
                {"start": start, "end": end, "kind": "site_line", "action": "cut"}
                for start, end in cuts
            ]
    return marked
