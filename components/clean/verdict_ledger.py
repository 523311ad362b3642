"""The verdict ledger: for every document each rule's score and bounds, its spans, the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from components.clean.selection_rule import (
    Bound,
    KeptOriginal,
    MarkedSpan,
    Rule,
    RuleFinding,
    ScoredShard,
)

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
COMMON_FIELDS = (
    pa.field("id", pa.string(), nullable=False),
    pa.field("url", pa.string(), nullable=False),
    pa.field("kept", pa.bool_(), nullable=False),
    pa.field("reasons", pa.list_(pa.string()), nullable=False),  # names of failed rules
    pa.field("rules", pa.list_(RULE), nullable=False),
    pa.field("spans", pa.list_(MARKED), nullable=False),
)
"""Columns of every ledger; the rules' own follow."""


def ledger_table(
    rules: Sequence[Rule],
    shard: ScoredShard,
    findings: Sequence[RuleFinding],
    reasons: Mapping[int, list[str]],
    marks: Sequence[list[list[MarkedSpan]]],
    originals: Mapping[str, KeptOriginal],
) -> pa.Table:
    """One row for every document of a shard, in its order.

    Args:
        rules: All rules of the selection, for the columns they add.
        shard: The documents, dropped ones too, and their scores.
        findings: Verdicts of the rules that apply.
        reasons: Row -> names of the rules that dropped it.
        marks: Of each rule that applies, the marked spans of every document.
        originals: Dropped document -> the kept one it repeats.
    """
    documents = range(len(shard.documents))
    columns: list[Any] = [
        shard.documents["id"],
        shard.documents["url"],
        [row not in reasons for row in documents],
        [reasons.get(row, []) for row in documents],
        _findings_by_document(findings, len(documents)),
        [[span._asdict() for spans in marks for span in spans[row]] for row in documents],
    ]
    fields = list(COMMON_FIELDS)
    # The last rule's columns come first: so ledgers have been, and their bytes stay equal.
    for rule in reversed(rules):
        columns += rule.ledger_columns(shard, originals)
        fields += rule.ledger_fields
    return pa.table(columns, schema=pa.schema(fields))


def _findings_by_document(findings: Sequence[RuleFinding], documents: int) -> pa.ListArray:
    """Findings turned from one array a rule into one list a document."""
    width = len(findings)
    offsets = np.arange(documents + 1, dtype=np.int32) * width
    columns = [
        pa.array([finding.rule for finding in findings] * documents, type=pa.string()),
        pa.array(np.stack([f.scores for f in findings], axis=1).ravel(), type=pa.float64()),
        _bounds_by_document([finding.at_least for finding in findings], documents),
        _bounds_by_document([finding.at_most for finding in findings], documents),
        pa.array(np.stack([f.passed for f in findings], axis=1).ravel(), type=pa.bool_()),
    ]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(columns, fields=list(RULE)))


def _bounds_by_document(bounds: Sequence[Bound], documents: int) -> pa.Array:
    """Bounds of every rule for each document in turn, null where there is none."""
    columns = [np.full(documents, np.nan if bound is None else bound) for bound in bounds]
    return pa.array(np.stack(columns, axis=1).ravel(), type=pa.float64(), from_pandas=True)
