"""Scores how much of an evaluation item each document holds: what a model must not be trained on.

Items are looked for also when lightly edited (``overlap.py``). A question that says little
("Which of the following is true?") is looked for together with each of its answers, and a short
one counts only word for word: it is what people ask anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from pydantic import Field

from components.clean.contamination.approximate_match import (
    SIZE,
    Index,
    Match,
    build_index,
    find_matches,
    word_weights,
)
from components.clean.contamination.evaluation_items import Item, read_items
from components.core.config.hashed_file import NamedFile
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_all, write_shard
from components.core.store.workdir import Workdir
from components.text.word_splitting import word_places, words

log = get_logger(__name__)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("overlap", pa.float64(), nullable=False),  # of the item found most whole, else 0
        pa.field("item", pa.string(), nullable=False),  # file:row; empty where none was found
        pa.field("items", pa.int64(), nullable=False),  # how many were found
        pa.field("start", pa.int64(), nullable=False),  # offsets in characters of the text
        pa.field("end", pa.int64(), nullable=False),
    ]
)
REFUSED = pa.schema([("row", pa.string()), ("reason", pa.string())])


class ContaminationConfig(StageConfig):
    """Which evaluation sets must not be in the corpus, and what counts as found."""

    sets: tuple[NamedFile, ...] = Field(
        default=(), description="JSONL files, plain or gzip, a question and an answer a row"
    )
    question: str = Field(default="question", description="field of a row that holds the question")
    answer: str = Field(default="answer", description="field that holds an answer, if there is one")
    least: float = Field(
        default=0.7, ge=0.5, le=1, description="overlaps below this are not written down"
    )
    fuzzy_words: int = Field(
        default=7,
        ge=SIZE,
        description="items of fewer words must stand there word for word, as must those with "
        "less than twice least_information",
    )
    exact_words: int = Field(
        default=5, ge=SIZE, description="questions of fewer words count only with their answer"
    )
    least_information: float = Field(
        default=1.6,
        ge=0,
        description="questions with less (1 is one rare word) count only with their answer",
    )


def score_contamination(config: ContaminationConfig, corpus: Corpus, work: Workdir) -> Scores:
    """The item that each document holds most of, and how much of it.

    Raises:
        DataError: a set changed since the run was planned, or holds no usable row.
    """
    items, refused = read_items(config.sets, config.question, config.answer)
    if refused:
        first = f"{refused[0].row} {refused[0].reason}"
        count = len(refused)
        log.warning("contamination.sets: rows without an item: %d, the first: %s", count, first)
    map_shards(work, work.path(corpus), contamination_of_shard, config=config)
    if refused:
        rows = [{"row": one.row, "reason": one.reason} for one in refused]
        table = pa.Table.from_pylist(rows, schema=REFUSED)
        write_shard(work.folder / "quarantine.parquet", table)
    found = read_all(work.folder, ["items"])["items"].to_pylist()
    searched = len({text.item for text in searchable(config, items)})
    return work.seal(
        Scores,
        stats={
            "contaminated": float(sum(count > 0 for count in found)),
            "items": float(len(items)),
            "items_too_short": float(len(items) - searched),
            "quarantined": float(len(refused)),
            "documents": float(len(found)),
        },
    )


@dataclass(frozen=True)
class Searched:
    """A text that stands for an item: its question, or its question with an answer."""

    item: str
    words: tuple[str, ...]
    least: float
    """Smallest overlap that counts; 1 for a short text."""


def searchable(config: ContaminationConfig, items: Sequence[Item]) -> list[Searched]:
    """What is looked for; items that are too short give nothing."""
    weights = _weights(items)

    def information(text: tuple[str, ...]) -> float:
        return sum(weights[word] for word in text)

    found: list[Searched] = []
    for item in items:
        question, told = item.question, information(item.question)
        if len(question) >= config.exact_words and told >= config.least_information:
            found.append(_searched(config, item.name, question, told))
        if len(question) >= 2 * config.fuzzy_words and told >= 2 * config.least_information:
            continue  # an answer would add nothing
        for answer in item.answers:
            whole = question + answer
            together = information(whole)
            if len(whole) >= config.exact_words and together >= config.least_information:
                found.append(_searched(config, item.name, whole, together))
    return found


def _searched(
    config: ContaminationConfig, name: str, text: tuple[str, ...], told: float
) -> Searched:
    enough = len(text) >= config.fuzzy_words and told >= 2 * config.least_information
    return Searched(name, text, config.least if enough else 1.0)


def _weights(items: Sequence[Item]) -> dict[str, float]:
    return word_weights([sum(item.answers, item.question) for item in items])


@lru_cache(maxsize=1)
def _index(config: ContaminationConfig) -> tuple[Index, list[Searched]]:
    """Made once a worker, not once a shard."""
    items, _ = read_items(config.sets, config.question, config.answer)
    texts = searchable(config, items)
    return build_index([text.words for text in texts], _weights(items)), texts


def contamination_of_shard(table: pa.Table, config: ContaminationConfig) -> pa.Table:
    """Scores of one shard (in a worker)."""
    found: list[list[Match]] = [[] for _ in range(len(table))]
    contents = table["text"].to_pylist()
    index, texts = _index(config)
    if texts:
        documents = [words(text) for text in contents]
        for match in find_matches(index, documents, config.least):
            if _counts(texts[match.text], match, documents[match.document]):
                found[match.document].append(match)
    rows = [
        _row(identifier, content, matches, texts)
        for identifier, content, matches in zip(
            table["id"].to_pylist(), contents, found, strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _counts(text: Searched, match: Match, document: Sequence[str]) -> bool:
    """Whether the overlap is enough; a short text must stand there without a word between."""
    if text.least < 1:
        return match.overlap >= text.least
    return tuple(document[match.end - len(text.words) : match.end]) == text.words


def _row(
    identifier: str, content: str, matches: Sequence[Match], texts: Sequence[Searched]
) -> dict[str, object]:
    if not matches:
        return {"id": identifier, "overlap": 0.0, "item": "", "items": 0, "start": 0, "end": 0}
    best = max(matches, key=lambda match: (match.overlap, match.end - match.start, -match.text))
    places = word_places(content)
    return {
        "id": identifier,
        "overlap": best.overlap,
        "item": texts[best.text].item,
        "items": len({texts[match.text].item for match in matches}),
        "start": places[min(best.start, len(places) - 1)][0],
        "end": places[min(best.end, len(places)) - 1][1],
    }
