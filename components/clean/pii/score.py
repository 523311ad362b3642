"""PII scorer: personal data and secrets in each document, as spans and never a verdict."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pyarrow as pa
from pydantic import Field

from components.clean.pii.named_entities import NamesConfig, check_pipeline, find_names
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.document_rows import SPAN_TYPE
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.pii.find_pii import PiiKind, find_pii_spans
from components.text.spans import claim_spans

NAMED = pa.struct(
    [
        pa.field("field", pa.string()),  # title, navigation, headings or code
        pa.field("part", pa.int64()),  # which heading, which block of code; else 0
        *SPAN_TYPE,
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("spans", pa.list_(SPAN_TYPE), nullable=False),  # sorted, none overlapping
        pa.field("distinct", pa.int64(), nullable=False),  # different values among them
        # Names outside the text: whoever redacts has no model to find them with.
        pa.field("names_beside", pa.list_(NAMED), nullable=False),
    ]
)


class PiiConfig(StageConfig):
    """Kinds of personal data that are recorded."""

    kinds: tuple[PiiKind, ...] = Field(
        default=get_args(PiiKind),
        description="kinds whose spans are kept; KIND_example is example data of documentation",
    )
    names: NamesConfig = Field(
        default=NamesConfig(), description="names of people and places, by a model of yours"
    )


def score_pii(config: PiiConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Spans of personal data and secrets in every document's text.

    Args:
        config: Kinds of span, and the pipeline for names.
        corpus: The extracted documents.
        work: Folder of the scores.

    Raises:
        ConfigError: names are wanted, and their extra or their pipeline is not installed.
    """
    check_pipeline(config.names)
    kinds, model = [*config.kinds], config.names.model
    map_shards(work, work.artifact_folder(corpus), score_pii_shard, kinds=kinds, model=model)
    spans = read_shards(work.folder, ["spans"])["spans"].to_pylist()
    stats = {"spans": float(sum(map(len, spans))), "documents_with": float(sum(map(bool, spans)))}
    for kind in sorted({span["kind"] for row_spans in spans for span in row_spans}):
        stats[kind] = float(sum(span["kind"] == kind for found in spans for span in found))
    return work.seal(Scores, stats=stats)


def score_pii_shard(table: pa.Table, kinds: list[str], model: str | None = None) -> pa.Table:
    """Spans of one shard (in a worker).

    Args:
        table: Documents of the shard.
        kinds: Kinds of spans that are recorded.
        model: The pipeline that finds names; None for no names.
    """
    rows = []
    for row, (identifier, text) in enumerate(
        zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    ):
        found_spans = find_pii_spans(text)
        if model is not None:
            claim_spans(found_spans, find_names(text, model))
        spans = [span for span in found_spans if span.kind in kinds]
        beside = (
            []
            if model is None
            else _names_beside_text(table.slice(row, 1).to_pylist()[0], kinds, model)
        )
        rows.append(
            {
                "id": identifier,
                "spans": [span._asdict() for span in spans],
                "distinct": len({text[span.start : span.end] for span in spans}),
                "names_beside": beside,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _names_beside_text(
    document: dict[str, Any], kinds: list[str], model: str
) -> list[dict[str, Any]]:
    return [
        {"field": field, "part": part, **span._asdict()}
        for field, part, text in fields_beside_text(document)
        for span in find_names(text, model)
        if span.kind in kinds
    ]


def fields_beside_text(document: dict[str, Any]) -> Iterator[tuple[str, int, str]]:
    """(field, part, text) of what a document holds beside its text."""
    for field in ("title", "navigation"):
        yield field, 0, document[field]
    for field in ("headings", "code"):
        for part, text in enumerate(document[field]):
            yield field, part, text
