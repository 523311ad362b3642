"""Contamination scorer: the evaluation items that each document holds, how much of them and where.

Edited, moved, interrupted and cut items are found too (``approximate_match.py``). A question that
says little ("Which of the following is true?") is searched for together with each of its answers.
Words are weighed by how rare they are among the items and in a sample of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.clean.contamination.approximate_match import TextMatch, find_matches
from components.clean.contamination.evaluation_items import RejectedRow, read_evaluation_items
from components.clean.contamination.ngram_index import NGRAM_WORDS, NgramIndex, build_index
from components.clean.contamination.search_texts import (
    SAMPLE_DOCUMENTS,
    SearchText,
    WordCounts,
    count_document_words,
    list_search_texts,
    weigh_words,
)
from components.clean.contamination.text_units import split_units, unit_spans
from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import (
    map_shards,
    read_shard,
    read_shards,
    shard_paths,
    write_shard,
)
from components.core.store.workdir import Workdir

log = get_logger(__name__)
MATCH = pa.struct(
    [
        pa.field("item", pa.string(), nullable=False),  # file:row
        pa.field("overlap", pa.float64(), nullable=False),  # share of the item's weight
        pa.field("information", pa.float64(), nullable=False),  # the weight that stands there
        pa.field("longest_run", pa.float64(), nullable=False),  # words, without a change
        pa.field("form", pa.string(), nullable=False),  # verbatim, edited, moved, ...
        pa.field("start", pa.int64(), nullable=False),  # offsets in characters of the text
        pa.field("end", pa.int64(), nullable=False),
    ]
)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("items", pa.int64(), nullable=False),  # how many were found
        pa.field("matches", pa.list_(MATCH), nullable=False),  # the best MAX_MATCHES of them
    ]
)
REJECTED = pa.schema([("row", pa.string()), ("reason", pa.string())])
MAX_MATCHES = 16
"""Matches of a document that are recorded: a copy of a whole evaluation set holds thousands."""
_BATCH_DOCUMENTS = 512
"""Documents that are searched together: bounds the memory, and spares calls of numpy."""


class ContaminationConfig(StageConfig):
    """Evaluation sets that must not be in the corpus, and the overlaps that are recorded."""

    sets: tuple[HashedFile, ...] = Field(
        default=(), description="JSONL files, plain or gzip, a question and an answer a row"
    )
    question: str = Field(default="question", description="field of a row that holds the question")
    answer: str = Field(
        default="answer", description="field that holds an answer or a list of them, if there is"
    )
    least: float = Field(default=0.4, ge=0.3, le=1, description="smallest overlap that is recorded")
    min_words: int = Field(
        default=5,
        ge=NGRAM_WORDS,
        description="questions of fewer words count only with their answer",
    )
    min_information: float = Field(
        default=0.8,
        ge=0,
        description="questions with less (1 is one rare word) count only with their answer",
    )


def score_contamination(config: ContaminationConfig, corpus: Corpus, work: Workdir) -> Scores:
    """The evaluation items that each document holds, and how much of them.

    Args:
        config: Evaluation sets, and the bounds of an overlap.
        corpus: The extracted documents.
        work: Folder of the scores.

    Raises:
        DataError: a set changed since the run was planned, or holds no usable row.
    """
    stats = measure_contamination(config, work.artifact_folder(corpus), work.folder, work)
    return work.seal(Scores, stats=stats)


def measure_contamination(
    config: ContaminationConfig, source: Path, target: Path, work: Workdir
) -> dict[str, float]:
    """Write the scores of the documents in ``source``, shard by shard; their counts.

    Args:
        config: Evaluation sets, and the bounds of an overlap.
        source: Shards with the columns id and text.
        target: Folder of the scores, and of the rows of a set that hold no item.
        work: Folder for the counts of words, and workers.

    Raises:
        DataError: a set changed since the run was planned, or holds no usable row.
    """
    items, refused = read_evaluation_items(config.sets, config.question, config.answer)
    target.mkdir(parents=True, exist_ok=True)
    _quarantine(refused, target)
    counts = count_document_words(items, _sample_texts(source)) if items else WordCounts(0, {})
    counted = work.scratch / "word_counts.parquet"
    write_word_counts(counted, counts)
    map_shards(
        work,
        source,
        score_contamination_shard,
        folder=target,
        config=config,
        counted=HashedFile.model_validate(str(counted)),
    )
    item_counts = read_shards(target, ["items"])["items"].to_pylist()
    weights = weigh_words(items, counts)
    texts = list_search_texts(items, weights, config.min_words, config.min_information)
    return {
        "documents_with_items": float(sum(count > 0 for count in item_counts)),
        "items": float(len(items)),
        "items_too_short": float(len(items) - len({text.item for text in texts})),
        "quarantined": float(len(refused)),
        "documents": float(len(item_counts)),
    }


def _quarantine(refused: Sequence[RejectedRow], folder: Path) -> None:
    """Name the rows that hold no item in the log, and keep them with their reasons."""
    if not refused:
        return
    first = f"{refused[0].row} {refused[0].reason}"
    log.warning("contamination.sets: rows without an item: %d, the first: %s", len(refused), first)
    rows = [{"row": rejected.row, "reason": rejected.reason} for rejected in refused]
    write_shard(folder / "quarantine.parquet", pa.Table.from_pylist(rows, schema=REJECTED))


def _sample_texts(folder: Path) -> Iterator[str]:
    """Texts of the first documents, a random sample: shards are drawn and sorted by a hash."""
    left = SAMPLE_DOCUMENTS
    for path in shard_paths(folder):
        texts = read_shard(path, ["text"])["text"][:left]
        yield from texts.to_pylist()
        left -= len(texts)
        if not left:
            return


def write_word_counts(path: Path, counts: WordCounts) -> None:
    """Write counts for the workers; the row of the empty word holds the number of documents."""
    rows = {"": counts.documents, **dict(sorted(counts.holding.items()))}
    write_shard(path, pa.table({"word": list(rows), "documents": list(rows.values())}))


@lru_cache(maxsize=1)
def _worker_index(
    config: ContaminationConfig, counted: HashedFile
) -> tuple[NgramIndex, list[SearchText]]:
    """The index of all items, built once a worker and not once a shard."""
    items, _ = read_evaluation_items(config.sets, config.question, config.answer)
    table = read_shard(Path(counted.path))
    holding = dict(zip(table["word"].to_pylist(), table["documents"].to_pylist(), strict=True))
    weights = weigh_words(items, WordCounts(holding.pop(""), holding))
    texts = list_search_texts(items, weights, config.min_words, config.min_information)
    return build_index([t.words for t in texts], weights, [t.span for t in texts]), texts


def score_contamination_shard(
    table: pa.Table, config: ContaminationConfig, counted: HashedFile
) -> pa.Table:
    """Scores of one shard (in a worker).

    Args:
        table: The documents.
        config: The scorer's settings.
        counted: File of ``write_word_counts``.
    """
    contents = table["text"].to_pylist()
    index, texts = _worker_index(config, counted)
    matches_of: list[list[TextMatch]] = [[] for _ in contents]
    for start in range(0, len(contents) if texts else 0, _BATCH_DOCUMENTS):
        documents = [split_units(text) for text in contents[start : start + _BATCH_DOCUMENTS]]
        for match in find_matches(index, documents, config.least):
            matches_of[start + match.document].append(match)
    identifiers = table["id"].to_pylist()
    rows = [
        {"id": identifier, **_describe_matches(content, matches, texts)}
        for identifier, content, matches in zip(identifiers, contents, matches_of, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def _describe_matches(
    content: str, matches: Sequence[TextMatch], texts: Sequence[SearchText]
) -> dict[str, Any]:
    """Number of items found, and the best match of each, those of most overlap first."""
    best: dict[str, TextMatch] = {}
    for match in sorted(matches, key=lambda m: (-m.overlap, -m.information, m.text)):
        best.setdefault(texts[match.text].item, match)
    places = unit_spans(content) if best else []
    last = len(places) - 1  # in rare scripts case folding parts a unit in two
    return {
        "items": len(best),
        "matches": [
            {
                "item": item,
                "overlap": match.overlap,
                "information": match.information,
                "longest_run": match.longest_run,
                "form": match.form,
                "start": places[min(match.start, last)][0],
                "end": places[min(match.end - 1, last)][1],
            }
            for item, match in list(best.items())[:MAX_MATCHES]
        ],
    }
