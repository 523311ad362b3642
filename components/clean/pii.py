"""Scores personal data and secrets in each document: spans, never a verdict."""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from components.core.artifact import Corpus, Scores
from components.core.config import StageConfig
from components.core.rows import SPAN
from components.core.shards import map_shards, read_all
from components.core.workdir import Workdir
from components.text.pii import ALL_KINDS, find_spans

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("spans", pa.list_(SPAN), nullable=False),  # sorted, none overlapping
        pa.field("distinct", pa.int64(), nullable=False),  # different values among them
    ]
)


class PiiConfig(StageConfig):
    """Which kinds are looked for."""

    kinds: tuple[str, ...] = Field(
        default=ALL_KINDS,
        description="kinds whose spans are kept; a kind with _example is what documentation "
        "writes as an example",
    )


def score_pii(config: PiiConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Spans of personal data and secrets in every document's text."""
    map_shards(work, work.path(corpus), pii_of_shard, kinds=list(config.kinds))
    spans = read_all(work.folder, ["spans"])["spans"].to_pylist()
    stats = {"spans": float(sum(map(len, spans))), "documents_with": float(sum(map(bool, spans)))}
    for kind in sorted({span["kind"] for found in spans for span in found}):
        stats[kind] = float(sum(span["kind"] == kind for found in spans for span in found))
    return work.seal(Scores, stats=stats)


def pii_of_shard(table: pa.Table, kinds: list[str]) -> pa.Table:
    """Spans of one shard (in a worker)."""
    rows = []
    for identifier, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        spans = [span for span in find_spans(text) if span.kind in kinds]
        rows.append(
            {
                "id": identifier,
                "spans": [span._asdict() for span in spans],
                "distinct": len({text[span.start : span.end] for span in spans}),
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)
