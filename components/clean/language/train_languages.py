"""Languages learnt from the user's examples; without any the built-in ones stand alone."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import Classifier, canonical_json
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.heldout_split import split_position
from components.text.language_detector import (
    LanguageDetector,
    LearntLanguages,
    learn_languages,
)

MODEL, RECORD = "languages.safetensors", "languages.json"
FOLDS = 5
REJECTED = pa.schema([("row", pa.string()), ("reason", pa.string())])


class LanguageModelConfig(StageConfig):
    """Examples of languages to learn, and the accuracy asked for."""

    examples: tuple[HashedFile, ...] = Field(
        default=(), description="JSONL files, plain or gzip, a text and its language a row"
    )
    builtin: bool = Field(
        default=True,
        description="the built-in languages compete with those of the examples; false: these alone",
    )
    text: str = Field(default="text", description="field of a row that holds the text")
    language: str = Field(default="language", description="field that holds the language's code")
    min_lines: int = Field(
        default=10, ge=FOLDS, description="languages with fewer different texts are an error"
    )
    min_f1: float = Field(
        default=0.8, ge=0, le=1, description="floor of the mean F1 on texts that were held out"
    )


def train_languages(config: LanguageModelConfig, work: Workdir) -> Classifier:
    """Learn the languages of the examples, and measure them on texts that were held out.

    Raises:
        DataError: a file changed, a language has too few texts, the mean F1 is below ``min_f1``.
    """
    lines = _read_examples(config, work)
    if not lines:
        write_atomically(work.folder / RECORD, canonical_json({"builtin": True, "languages": []}))
        return work.seal(Classifier, stats={"languages": 0.0})
    f1 = _cross_validate(lines, config.builtin, work)
    mean = sum(f1.values()) / len(f1)
    if mean < config.min_f1:
        worst = min(f1, key=lambda code: (f1[code], code))
        raise DataError(
            f"language_model: mean F1 {mean:.3f} on held-out texts is below min_f1 "
            f"{config.min_f1:g} (worst: {worst}, {f1[worst]:.3f}); give more texts, or lower it"
        )
    write_atomically(work.folder / MODEL, learn_languages(lines).to_safetensors())
    record = {
        "builtin": config.builtin,
        "languages": sorted(lines),
        "f1": {code: round(f1[code], 6) for code in sorted(f1)},
    }
    write_atomically(work.folder / RECORD, canonical_json(record))
    texts = sum(map(len, lines.values()))
    stats = {"macro_f1": round(mean, 6), "languages": float(len(lines)), "texts": float(texts)}
    return work.seal(Classifier, stats=stats)


def read_detector(folder: Path) -> LanguageDetector:
    """The detector that an artifact of ``train_languages`` stands for."""
    record = json.loads((folder / RECORD).read_bytes())
    if not record["languages"]:
        return LanguageDetector()
    learnt = LearntLanguages.from_safetensors((folder / MODEL).read_bytes())
    return LanguageDetector(learnt, builtin=record["builtin"])


def read_example_codes(config: LanguageModelConfig) -> frozenset[str]:
    """Codes of the languages that the examples name."""
    return frozenset(
        row[config.language].strip()
        for file in config.examples
        for _, row in file.read_json_lines("language_model.examples")
        if isinstance(row, dict) and isinstance(row.get(config.language), str)
    )


def _cross_validate(lines: dict[str, list[str]], builtin: bool, work: Workdir) -> dict[str, float]:
    """F1 of each language, a fold of whose texts at a time is held out."""
    work.progress.start_count(FOLDS, "trainings")
    right, actual, predicted = Counter[str](), Counter[str](), Counter[str]()
    for number in range(FOLDS):
        seen = {
            c: [t for at, t in enumerate(texts_of_code) if at % FOLDS != number]
            for c, texts_of_code in lines.items()
        }
        detector = LanguageDetector(learn_languages(seen), builtin=builtin)
        for code, texts in lines.items():
            for text in texts[number::FOLDS]:
                best = detector.detect_language(text)
                actual[code] += 1
                predicted[best] += 1
                right[code] += best == code
        work.progress.advance()
    return {code: 2 * right[code] / (actual[code] + predicted[code]) for code in lines}


def _read_examples(config: LanguageModelConfig, work: Workdir) -> dict[str, list[str]]:
    """Code -> distinct texts, in an order of their own; bad rows go to quarantine."""
    lines: dict[str, dict[str, None]] = {}
    refused: list[dict[str, str]] = []
    for file in config.examples:
        for name, row in file.read_json_lines("language_model.examples"):
            if isinstance(row, dict) and all(
                isinstance(row.get(field), str) and row[field].strip()
                for field in (config.text, config.language)
            ):
                lines.setdefault(row[config.language].strip(), {})[row[config.text]] = None
            else:
                reason = f"has no text in fields {config.text!r} and {config.language!r}"
                refused.append({"row": name, "reason": reason})
    if refused:
        table = pa.Table.from_pylist(refused, schema=REJECTED)
        write_shard(work.folder / "quarantine.parquet", table)
    if config.examples and len(lines) < (1 if config.builtin else 2):
        raise DataError(
            f"language_model: {len(lines)} language(s) in the examples; "
            + ("one is needed" if config.builtin else "without builtin two are needed")
        )
    for code, texts in sorted(lines.items()):
        if len(texts) < config.min_lines:
            raise DataError(
                f"language_model: {code} has {len(texts)} text(s), min_lines is {config.min_lines}"
            )
    return {c: sorted(texts, key=lambda t: (split_position(t, 0), t)) for c, texts in lines.items()}
