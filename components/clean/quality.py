"""Scores each document with the statistics of Gopher, C4 and FineWeb.

Sources: Gopher (Rae et al. 2021, arXiv:2112.11446, appendix A.1.1), C4 (Raffel et al. 2020,
arXiv:1910.10683, section 2.2), FineWeb (Penedo et al. 2024, arXiv:2406.17557, section 3.6).

They were made for prose, and documentation is Markdown with code: lines and words are those
outside fenced blocks, ``code_share`` says how much that leaves out, the bounds are ``select``'s.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import pyarrow as pa
from pydantic import Field

from components.core.artifact import Corpus, Scores
from components.core.config import StageConfig
from components.core.shards import map_shards, read_all
from components.core.workdir import Workdir
from components.text.markdown import without_fences
from components.text.statistics import DUPLICATE, TOP, ngram_fractions
from components.text.words import STOP_WORDS

_STOP = frozenset(STOP_WORDS)
_BULLET = re.compile(r"\s*(?:[-*+•‣▪●]\s|\d{1,3}[.)]\s)")
_HEADING = re.compile(r"#{1,6}\s+")
_TERMINAL = (".", "!", "?", '"', "”", "。", "！", "？")
_SENTENCE = re.compile(r"[.!?](?:\s|$)")
_PARAGRAPHS = re.compile(r"\n\s*\n")
_STRIP = "#*_`()[]{}<>.,:;!?\"'"

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
    *(f"top_{size}gram" for size in TOP),
    *(f"duplicate_{size}gram" for size in DUPLICATE),
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        *(pa.field(name, pa.int64(), nullable=False) for name in COUNTS),
        *(pa.field(name, pa.float64(), nullable=False) for name in SHARES),
    ]
)


class QualityConfig(StageConfig):
    """What counts as short; everything else is as published."""

    short_line: int = Field(
        default=30, ge=1, le=1000, description="characters below which a line is short (FineWeb)"
    )


def score_quality(config: QualityConfig, corpus: Corpus, work: Workdir) -> Scores:
    """All statistics of every document, one column each.

    words             words separated by white space, outside fenced code (Gopher)
    mean_word_length  characters a word (Gopher)
    symbol_ratio      "#" (headings' marks aside) and ellipses a word (Gopher)
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
    """
    map_shards(work, work.path(corpus), quality_of_shard, short_line=config.short_line)
    found = read_all(work.folder, ["words", "code_share"])
    count = len(found)
    words = sum(found["words"].to_pylist())
    return work.seal(
        Scores,
        stats={
            "words": float(words),
            "documents": float(count),
            "code_share": round(sum(found["code_share"].to_pylist()) / max(1, count), 4),
        },
    )


def quality_of_shard(table: pa.Table, short_line: int) -> pa.Table:
    """Statistics of one shard (in a worker)."""
    texts = table["text"].to_pylist()
    outside = [without_fences(text) for text in texts]
    words = [text.split() for text in outside]
    rows = [
        _statistics(text, prose, split, short_line)
        for text, prose, split in zip(texts, outside, words, strict=True)
    ]
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
    columns.update({name: values.tolist() for name, values in ngram_fractions(words).items()})
    columns["id"] = table["id"].to_pylist()
    return pa.table({field.name: columns.get(field.name, []) for field in SCHEMA}, schema=SCHEMA)


def _statistics(text: str, outside: str, words: Sequence[str], short_line: int) -> dict[str, float]:
    lines = [stripped for line in outside.split("\n") if (stripped := line.strip())]
    paragraphs = [p for part in _PARAGRAPHS.split(outside) if (p := part.strip())]
    bare = [word.strip(_STRIP).lower() for word in words]
    marks = sum(len(match[0].rstrip()) for line in lines if (match := _HEADING.match(line)))
    lower = outside.lower()
    return {
        "words": len(words),
        "lines": len(lines),
        "sentences": len(_SENTENCE.findall(outside)),
        "stop_words": len(_STOP.intersection(bare)),
        "curly_braces": text.count("{") + text.count("}"),
        "lorem_ipsum": lower.count("lorem ipsum"),
        "javascript": lower.count("javascript"),
        "mean_word_length": _share(sum(map(len, words)), len(words)),
        "symbol_ratio": _share(
            outside.count("#") - marks + outside.count("...") + outside.count("…"), len(words)
        ),
        "bullet_lines": _share(sum(1 for line in lines if _BULLET.match(line)), len(lines)),
        "ellipsis_lines": _share(sum(line.endswith(("...", "…")) for line in lines), len(lines)),
        "alphabetic_words": _share(sum(_has_letter(word) for word in words), len(words)),
        "punctuated_lines": _share(sum(line.endswith(_TERMINAL) for line in lines), len(lines)),
        "short_lines": _share(sum(len(line) < short_line for line in lines), len(lines)),
        "code_share": _share(len(text) - len(outside), len(text)),
        "non_ascii": _share(len(text) - len(text.encode("ascii", "ignore")), len(text)),
        **_repeats("line", lines),
        **_repeats("paragraph", paragraphs),
    }


def _repeats(what: str, parts: Sequence[str]) -> dict[str, float]:
    counts = Counter(parts)
    again = len(parts) - len(counts)
    characters = sum((count - 1) * len(part) for part, count in counts.items())
    return {
        f"duplicate_{what}s": _share(again, len(parts)),
        f"duplicate_{what}_characters": _share(characters, sum(map(len, parts))),
    }


def _has_letter(word: str) -> bool:
    return word.isalpha() or any(map(str.isalpha, word))


def _share(part: float, whole: float) -> float:
    return round(part / whole, 6) if whole else 0.0
