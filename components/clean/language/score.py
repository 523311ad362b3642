"""Language scorer: languages of each document, as a whole and segment by segment.

By default with resiliparse's fast detector, which ranks 101 languages by the out-of-place distance
of byte n-gram profiles (after Cavnar & Trenkle 1994); the lower the rank, the closer. A model that
learnt from the user's lines (``train_languages.py``) takes its place where there is one. Both see
the sentences of a page, not its code and identifiers.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field
from resiliparse.parse.lang import detect_fast

from components.clean.language.train_languages import MODEL
from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Classifier, Corpus, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.language_classifier import LanguageModel
from components.text.word_splitting import extract_prose

MAX_RANK = 1200
"""Default of the detector, resiliparse: languages ranked above it are usually wrong."""
UNKNOWN = "unknown"
CANDIDATE = pa.struct([("language", pa.string()), ("confidence", pa.float64())])
SHARE = pa.struct([("language", pa.string()), ("share", pa.float64())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("language", pa.string(), nullable=False),
        pa.field("confidence", pa.float64(), nullable=False),  # 1 - rank / 1200, or probability
        pa.field("letters", pa.int64(), nullable=False),  # of prose: how much there was to go by
        pa.field("candidates", pa.list_(CANDIDATE), nullable=False),  # best first
        pa.field("shares", pa.list_(SHARE), nullable=False),  # of letters, by segment, most first
    ]
)


class LanguageConfig(StageConfig):
    """Amount of text that is looked at, and number of candidates that are kept."""

    candidates: int = Field(
        default=5, ge=1, le=101, description="number of best languages recorded for a document"
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
        languages: What ``train_languages`` learnt; without a model the built-in detector is used.
        work: Folder of the scores.
    """
    model = work.artifact_folder(languages) / MODEL
    map_shards(
        work,
        work.artifact_folder(corpus),
        score_language_shard,
        config=config,
        model=model if model.is_file() else None,
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


def score_language_shard(table: pa.Table, config: LanguageConfig, model: Path | None) -> pa.Table:
    """Scores of one shard (in a worker).

    Args:
        table: Documents of the shard.
        config: Amount of text looked at, and languages recorded.
        model: File of learnt languages; None for the built-in detector.
    """
    learnt = LanguageModel.from_safetensors(model.read_bytes()) if model else None
    rows = []
    for identifier, text in zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True):
        sample = unicodedata.normalize("NFC", extract_prose(text)[: config.max_characters])
        rows.append({"id": identifier, **_score_text(config, sample, learnt)})
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _score_text(
    config: LanguageConfig, sample: str, learnt: LanguageModel | None
) -> dict[str, object]:
    segments = _split_segments(sample, config)
    if learnt is None:
        candidates, shares = _detect_builtin(config, sample, segments)
    else:
        candidates, shares = _classify_segments(config, learnt, segments)
    return {
        "language": candidates[0][0] if candidates else UNKNOWN,
        "confidence": candidates[0][1] if candidates else 0.0,
        "letters": sum(map(str.isalpha, sample)),
        "candidates": [{"language": code, "confidence": value} for code, value in candidates],
        "shares": [{"language": code, "share": value} for code, value in shares],
    }


def _split_segments(sample: str, config: LanguageConfig) -> list[tuple[int, str]]:
    """(letters, text) of lines taken together; a short rest goes to the last."""
    segments: list[tuple[int, str]] = []
    segment: list[str] = []
    letters = 0
    for line in sample.split("\n"):
        segment.append(line)
        letters += sum(map(str.isalpha, line))
        if letters >= config.segment_letters:
            segments.append((letters, "\n".join(segment)))
            segment, letters = [], 0
    if letters:
        before, text = segments.pop() if segments else (0, "")
        segments.append((before + letters, "\n".join([text, *segment])))
    step = -(-len(segments) // config.max_segments) if segments else 1
    return segments[::step]


Ranking = list[tuple[str, float]]


def _detect_builtin(
    config: LanguageConfig, sample: str, segments: list[tuple[int, str]]
) -> tuple[Ranking, Ranking]:
    """(candidates, shares) by the built-in detector."""
    if not segments:
        return [], []
    ranked = [
        (code, round(1 - rank / MAX_RANK, 4))
        for rank, code in _rank_languages(sample, config.candidates)
    ]
    letters: Counter[str] = Counter()
    for count, text in segments:
        best = _rank_languages(text, 1)
        letters[best[0][1] if best else UNKNOWN] += count
    return ranked, _letter_shares(letters)


def _classify_segments(
    config: LanguageConfig, learnt: LanguageModel, segments: list[tuple[int, str]]
) -> tuple[Ranking, Ranking]:
    """(candidates, shares) by the model; a document's chances are its letters' mean."""
    if not segments:
        return [], []
    letters: Counter[str] = Counter()
    chances = np.zeros(len(learnt.codes))
    for count, text in segments:
        segment_chances = learnt.probabilities(text)
        letters[learnt.codes[int(segment_chances.argmax())]] += count
        chances += segment_chances * count
    chances /= letters.total()
    order = np.lexsort((np.arange(len(chances)), -chances))[: config.candidates]
    return [(learnt.codes[at], round(float(chances[at]), 4)) for at in order], _letter_shares(
        letters
    )


def _letter_shares(letters: Counter[str]) -> Ranking:
    ordered = sorted(letters.items(), key=lambda pair: (-pair[1], pair[0]))
    return [(code, round(count / letters.total(), 4)) for code, count in ordered]


def _rank_languages(sample: str, max_languages: int) -> list[tuple[int, str]]:
    """(rank, language), best first; ties by the language's code."""
    ranks: Any = detect_fast(
        sample, cutoff=MAX_RANK, n_results=max(2, max_languages)
    )  # one gives no list
    return sorted((int(rank), str(language)) for language, rank in ranks)[:max_languages]
