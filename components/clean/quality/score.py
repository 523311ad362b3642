"""Quality scorer: the statistics of Gopher, C4 and FineWeb for each document.

Sources: Gopher (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1), C4 (Raffel et al. 2020,
arXiv:1910.10683, section 2.2), FineWeb (Penedo et al. 2024, arXiv:2406.17557, section 3.6).

They were made for prose, and documentation is Markdown with code: lines and words are those
outside fenced blocks, ``code_share`` says how much that leaves out, the bounds are ``select``'s.
"""

from __future__ import annotations

import pyarrow as pa
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.document_statistics import document_statistics

COUNTS = ("words", "lines", "sentences", "stop_words", "curly_braces", "lorem_ipsum", "javascript")
SHARES = (
    "mean_word_length",
    "symbol_ratio",
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",
    "punctuated_lines",
    "short_lines",
    "duplicate_lines",
    "duplicate_line_characters",
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "code_share",
    "non_ascii",
    "unspaced",
    *(f"top_{size}gram" for size in (2, 3, 4)),
    *(f"duplicate_{size}gram" for size in (5, 6, 7, 8, 9, 10)),
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        *(pa.field(name, pa.float64(), nullable=False) for name in SHARES),
    ]
)


class QualityConfig(StageConfig):
    """Length of a short line; every other statistic is as published."""

    short_line: int = Field(
        default=30, ge=1, le=1000, description="characters below which a line is short (FineWeb)"
    )


def score_quality(config: QualityConfig, corpus: Corpus, work: Workdir) -> Scores:
    """All statistics of every document, one column each.

    words             words separated by white space, outside fenced code (Gopher)
    mean_word_length  characters a word (Gopher)
    symbol_ratio      "#" (heading marks left out) and ellipses a word (Gopher)
    bullet_lines, ellipsis_lines      share of lines that begin or end so (Gopher)
    alphabetic_words  share of words with a letter (Gopher)
    stop_words        how many of Gopher's eight occur
    duplicate_*       share of lines or paragraphs, or of their characters, that occurred before
    top_Ngram, duplicate_Ngram        share of characters (Gopher)
    punctuated_lines  share of lines that end in terminal punctuation (C4, FineWeb)
    sentences, curly_braces, lorem_ipsum, javascript   counts (C4)
    short_lines       share of lines shorter than ``short_line`` (FineWeb)
    code_share        share of all characters inside fenced blocks
    non_ascii         share of characters beyond ASCII
    unspaced          share of characters of scripts that put no space between words

    Args:
        config: Length of a short line.
        corpus: The extracted documents.
        work: Folder of the scores.
    """
    map_shards(
        work, work.artifact_folder(corpus), score_quality_shard, short_line=config.short_line
    )
    totals = read_shards(work.folder, ["words", "code_share"])
    count = len(totals)
    words = sum(totals["words"].to_pylist())
    return work.seal(
        Scores,
        stats={
            "words": float(words),
            "documents": float(count),
            "code_share": round(sum(totals["code_share"].to_pylist()) / max(1, count), 4),
        },
    )


def score_quality_shard(table: pa.Table, short_line: int) -> pa.Table:
    """Statistics of one shard (in a worker)."""
    values = document_statistics(table["text"], short_line)
    columns = {field.name: pa.array(values[field.name]) for field in SCHEMA if field.name != "id"}
    return pa.table({"id": table["id"], **columns}).cast(SCHEMA)
