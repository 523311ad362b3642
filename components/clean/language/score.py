"""Language scorer: languages of each document, as a whole and segment by segment.

By py3langid, beside or in place of whose languages stand those learnt from the user's lines
(``train_languages.py``). It sees the sentences of a page, not its code and identifiers. A page is
read in segments, and the probability of a language is the mean over the letters of them all: of a
page that changes its language it is the share.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.language.train_languages import read_detector
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.language_detector import NO_LANGUAGE, LanguageDetector
from components.text.word_splitting import extract_prose

UNKNOWN = "unknown"
"""Language of a page without sentences: code, numbers, names."""
FEW_LETTERS = 50
"""Prose with fewer letters says too little to leave headings aside."""
LONGEST_LINE = 2
"""Letters of a segment, times this: longer lines are split, so one line is not one vote."""
LEAST_CHANCE = 0.0001
"""A segment's languages below it are left out: a page's chances have four decimals."""
_HEADING_MARK = re.compile(r"^#{1,6}\s+", re.MULTILINE)
CANDIDATE = pa.struct([("language", pa.string()), ("confidence", pa.float64())])
SHARE = pa.struct([("language", pa.string()), ("share", pa.float64())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),  # probability of the language
        pa.field("letters", pa.int64(), nullable=False),  # of prose: how much there was to go by
        pa.field("candidates", pa.list_(CANDIDATE), nullable=False),  # best first
        pa.field("shares", pa.list_(SHARE), nullable=False),  # of letters, by segment, most first
    ]
)


class LanguageConfig(StageConfig):
    """Amount of text that is looked at, and number of candidates that are kept."""

    candidates: int = Field(
        default=10, ge=1, le=200, description="number of best languages recorded for a document"
    )
    max_characters: int = Field(
        default=200_000, ge=100, description="characters of a document's prose that are looked at"
    )
    segment_letters: int = Field(
        default=200,
        ge=20,
        description="letters of a segment: lines are joined until they hold so many",
    )
    max_segments: int = Field(
        default=40,
        ge=1,
        description="most segments of a document that are classified, spread over it",
    )


def score_language(
    config: LanguageConfig, corpus: Corpus, languages: Classifier, work: Workdir
) -> Scores:
    """The best languages of every document with their confidence, and each one's share of it.

    Args:
        config: Amount of text looked at, and languages recorded.
        corpus: The extracted documents.
        languages: Learnt languages, beside the built-in ones or in their place.
        work: Folder of the scores.
    """
    map_shards(
        work,
        work.artifact_folder(corpus),
        score_language_shard,
        config=config,
        languages=work.artifact_folder(languages),
    )
    languages_found = read_shards(work.folder, ["language"])["language"].to_pylist()
    return work.seal(
        Scores,
        stats={
            "languages": float(len(set(languages_found) - {UNKNOWN})),
            "unknown": float(languages_found.count(UNKNOWN)),
            "documents": float(len(languages_found)),
        },
    )


def score_language_shard(table: pa.Table, config: LanguageConfig, languages: Path) -> pa.Table:
    """Scores of one shard (in a worker).

    Args:
        table: Documents of the shard.
        config: Amount of text looked at, and languages recorded.
        languages: Folder of the learnt languages.
    """
    detector = read_detector(languages)
    rows = [
        {"id": identifier, **_score_text(config, text, detector)}
        for identifier, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _score_text(config: LanguageConfig, text: str, detector: LanguageDetector) -> dict[str, object]:
    segments = _split_segments(_sample_prose(text)[: config.max_characters], config)
    chances: defaultdict[str, float] = defaultdict(float)
    letters: Counter[str] = Counter()
    for count, segment in _spread(segments, config.max_segments):
        ranked = detector.rank_languages(segment)
        for code, probability in takewhile(lambda pair: pair[1] >= LEAST_CHANCE, ranked):
            chances[code] += probability * count
        letters[ranked[0][0]] += count
    chances.pop(NO_LANGUAGE, None)
    letters.pop(NO_LANGUAGE, None)
    candidates, shares = _rank_shares(chances)[: config.candidates], _rank_shares(letters)
    return {
        "language": candidates[0][0] if shares else UNKNOWN,
        "confidence": candidates[0][1] if shares else 0.0,
        "letters": sum(count for count, _ in segments),
        "candidates": [{"language": code, "confidence": value} for code, value in candidates],
        "shares": [{"language": code, "share": value} for code, value in shares],
    }


def _sample_prose(text: str) -> str:
    """Sentences of a page; with its headings where there are hardly any sentences."""
    prose = extract_prose(text)
    if _count_letters(prose) < FEW_LETTERS:
        prose = extract_prose(_HEADING_MARK.sub("", text))
    return unicodedata.normalize("NFC", prose)


def _split_segments(sample: str, config: LanguageConfig) -> list[tuple[int, str]]:
    """(letters, text) of lines taken together; a short rest goes to the last."""
    segments: list[tuple[int, str]] = []
    segment: list[str] = []
    letters = 0
    size = LONGEST_LINE * config.segment_letters
    for line in sample.split("\n"):
        for start in range(0, len(line), size):
            segment.append(line[start : start + size])
            letters += _count_letters(segment[-1])
            if letters >= config.segment_letters:
                segments.append((letters, "\n".join(segment)))
                segment, letters = [], 0
    if letters:
        before, text = segments.pop() if segments else (0, "")
        segments.append((before + letters, "\n".join([text, *segment])))
    return segments


def _spread(segments: list[tuple[int, str]], most: int) -> list[tuple[int, str]]:
    """At most so many segments, at even distances."""
    return segments[:: max(1, -(-len(segments) // most))]


def _count_letters(text: str) -> int:
    """Letters and the marks that belong to them: vowels of Indic scripts are marks."""
    counts = Counter(text).items()  # a lookup for each distinct character: ten times as fast
    return sum(n for sign, n in counts if unicodedata.category(sign)[0] in "LM")


def _rank_shares(weights: Mapping[str, float]) -> list[tuple[str, float]]:
    """(code, share of the whole), largest first; ties by the code."""
    whole = sum(weights.values())
    ordered = sorted(weights.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(code, round(weight / whole, 4)) for code, weight in ordered]
