"""Scores the language of each document with resiliparse's fast detector.

The detector ranks 101 languages by the out-of-place distance of byte n-gram profiles (after Cavnar
& Trenkle 1994); the lower the rank, the closer. It sees the sentences of a page, not its code and
identifiers.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import pyarrow as pa
from pydantic import Field
from resiliparse.parse.lang import detect_fast

from components.core.artifact import Corpus, Scores
from components.core.config import StageConfig
from components.core.shards import map_shards, read_all
from components.core.workdir import Workdir
from components.text.words import prose

CUTOFF = 1200
"""The detector's own bound: ranks above it are usually wrong."""
UNKNOWN = "unknown"
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),  # 1 - rank / 1200
        pa.field("letters", pa.int64(), nullable=False),  # of prose: how much there was to go by
        pa.field(
            "candidates",
            pa.list_(pa.struct([("language", pa.string()), ("confidence", pa.float64())])),
            nullable=False,
        ),
    ]
)


class LanguageConfig(StageConfig):
    """How many candidates are kept."""

    candidates: int = Field(default=5, ge=1, le=101, description="best languages a document")
    max_characters: int = Field(
        default=200_000, ge=100, description="of one document's prose that are looked at"
    )


def score_language(config: LanguageConfig, corpus: Corpus, work: Workdir) -> Scores:
    """The best languages of every document with their confidence."""
    map_shards(
        work,
        work.path(corpus),
        language_of_shard,
        candidates=config.candidates,
        max_characters=config.max_characters,
    )
    found = read_all(work.folder, ["language"])["language"].to_pylist()
    return work.seal(
        Scores,
        stats={
            "languages": float(len(set(found) - {UNKNOWN})),
            "unknown": float(found.count(UNKNOWN)),
            "documents": float(len(found)),
        },
    )


def language_of_shard(table: pa.Table, candidates: int, max_characters: int) -> pa.Table:
    """Scores of one shard (in a worker)."""
    rows = []
    for identifier, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        sample = unicodedata.normalize("NFC", prose(text)[:max_characters])
        letters = sum(map(str.isalpha, sample))
        ranked = _ranked(sample, candidates) if letters else []
        found = [
            {"language": language, "confidence": round(1 - rank / CUTOFF, 4)}
            for rank, language in ranked
        ]
        rows.append(
            {
                "id": identifier,
                "language": found[0]["language"] if found else UNKNOWN,
                "confidence": found[0]["confidence"] if found else 0.0,
                "letters": letters,
                "candidates": found,
            }
        )
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _ranked(sample: str, most: int) -> list[tuple[int, str]]:
    """(rank, language), best first; ties by the language's code."""
    given: Any = detect_fast(sample, cutoff=CUTOFF, n_results=max(2, most))  # one gives no list
    return sorted((int(rank), str(language)) for language, rank in given)[:most]
