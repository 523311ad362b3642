"""Contamination scorer: the evaluation item that each document holds most of, and how much.

Lightly edited items are found too (``approximate_match.py``). A question that says little
("Which of the following is true?") is searched for together with each of its answers, and a short
one counts only word for word: it is what people ask anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyarrow as pa
from pydantic import Field

from components.clean.contamination.approximate_match import (
    NGRAM_WORDS,
    NgramIndex,
    TextMatch,
    build_index,
    find_matches,
    word_weights,
)
from components.clean.contamination.evaluation_items import EvaluationItem, read_evaluation_items
from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_shards, write_shard
from components.core.store.workdir import Workdir
from components.text.word_splitting import split_words, word_spans

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
REJECTED = pa.schema([("row", pa.string()), ("reason", pa.string())])


class ContaminationConfig(StageConfig):
    """Evaluation sets that must not be in the corpus, and the overlaps that are recorded."""

    sets: tuple[HashedFile, ...] = Field(
        default=(), description="JSONL files, plain or gzip, a question and an answer a row"
    )
    question: str = Field(default="question", description="field of a row that holds the question")
    answer: str = Field(default="answer", description="field that holds an answer, if there is one")
    least: float = Field(default=0.7, ge=0.5, le=1, description="smallest overlap that is recorded")
    fuzzy_words: int = Field(
        default=7,
        ge=NGRAM_WORDS,
        description="items of fewer words are found word for word alone, as are those with less "
        "than twice least_information",
    )
    exact_words: int = Field(
        default=5,
        ge=NGRAM_WORDS,
        description="questions of fewer words count only with their answer",
    )
    least_information: float = Field(
        default=1.6,
        ge=0,
        description="questions with less (1 is one rare word) count only with their answer",
    )


def score_contamination(config: ContaminationConfig, corpus: Corpus, work: Workdir) -> Scores:
    """The item that each document holds most of, and how much of it.

    Args:
        config: Evaluation sets, and the bounds of an overlap.
        corpus: The extracted documents.
        work: Folder of the scores.

    Raises:
        DataError: a set changed since the run was planned, or holds no usable row.
    """
    items, refused = read_evaluation_items(config.sets, config.question, config.answer)
    if refused:
        first = f"{refused[0].row} {refused[0].reason}"
        count = len(refused)
        log.warning("contamination.sets: rows without an item: %d, the first: %s", count, first)
    map_shards(work, work.artifact_folder(corpus), score_contamination_shard, config=config)
    if refused:
        rows = [{"row": rejected.row, "reason": rejected.reason} for rejected in refused]
        table = pa.Table.from_pylist(rows, schema=REJECTED)
        write_shard(work.folder / "quarantine.parquet", table)
    item_counts = read_shards(work.folder, ["items"])["items"].to_pylist()
    searched = len({text.item for text in search_texts(config, items)})
    return work.seal(
        Scores,
        stats={
            "contaminated": float(sum(count > 0 for count in item_counts)),
            "items": float(len(items)),
            "items_too_short": float(len(items) - searched),
            "quarantined": float(len(refused)),
            "documents": float(len(item_counts)),
        },
    )


@dataclass(frozen=True)
class SearchText:
    """A text that stands for an item: its question, or its question with an answer."""

    item: str
    words: tuple[str, ...]
    min_overlap: float
    """Smallest overlap that counts; 1 for a short text."""


def search_texts(config: ContaminationConfig, items: Sequence[EvaluationItem]) -> list[SearchText]:
    """Texts that stand for the items; items that are too short have none."""
    weights = _item_word_weights(items)

    def information(text: tuple[str, ...]) -> float:
        return sum(weights[word] for word in text)

    texts: list[SearchText] = []
    for item in items:
        question, question_information = item.question, information(item.question)
        if len(question) >= config.exact_words and question_information >= config.least_information:
            texts.append(_search_text(config, item.name, question, question_information))
        if (
            len(question) >= 2 * config.fuzzy_words
            and question_information >= 2 * config.least_information
        ):
            continue  # an answer would add nothing
        for answer in item.answers:
            whole = question + answer
            whole_information = information(whole)
            if len(whole) >= config.exact_words and whole_information >= config.least_information:
                texts.append(_search_text(config, item.name, whole, whole_information))
    return texts


def _search_text(
    config: ContaminationConfig, name: str, text: tuple[str, ...], text_information: float
) -> SearchText:
    enough = len(text) >= config.fuzzy_words and text_information >= 2 * config.least_information
    return SearchText(name, text, config.least if enough else 1.0)


def _item_word_weights(items: Sequence[EvaluationItem]) -> dict[str, float]:
    return word_weights([sum(item.answers, item.question) for item in items])


@lru_cache(maxsize=1)
def _worker_index(config: ContaminationConfig) -> tuple[NgramIndex, list[SearchText]]:
    """The index of all items, built once a worker and not once a shard."""
    items, _ = read_evaluation_items(config.sets, config.question, config.answer)
    texts = search_texts(config, items)
    return build_index([text.words for text in texts], _item_word_weights(items)), texts


def score_contamination_shard(table: pa.Table, config: ContaminationConfig) -> pa.Table:
    """Scores of one shard (in a worker)."""
    matches_of: list[list[TextMatch]] = [[] for _ in range(len(table))]
    contents = table["text"].to_pylist()
    index, texts = _worker_index(config)
    if texts:
        documents = [split_words(text) for text in contents]
        for match in find_matches(index, documents, config.least):
            if _is_enough(texts[match.text], match, documents[match.document]):
                matches_of[match.document].append(match)
    rows = [
        _score_row(identifier, content, matches, texts)
        for identifier, content, matches in zip(
            table["id"].to_pylist(), contents, matches_of, strict=True
        )
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _is_enough(text: SearchText, match: TextMatch, document: Sequence[str]) -> bool:
    """True where the overlap is enough; a short text must stand there without a word between."""
    if text.min_overlap < 1:
        return match.overlap >= text.min_overlap
    return tuple(document[match.end - len(text.words) : match.end]) == text.words


def _score_row(
    identifier: str, content: str, matches: Sequence[TextMatch], texts: Sequence[SearchText]
) -> dict[str, object]:
    if not matches:
        return {"id": identifier, "overlap": 0.0, "item": "", "items": 0, "start": 0, "end": 0}
    best = max(matches, key=lambda match: (match.overlap, match.end - match.start, -match.text))
    places = word_spans(content)
    return {
        "id": identifier,
        "overlap": best.overlap,
        "item": texts[best.text].item,
        "items": len({texts[match.text].item for match in matches}),
        "start": places[min(best.start, len(places) - 1)][0],
        "end": places[min(best.end, len(places)) - 1][1],
    }
