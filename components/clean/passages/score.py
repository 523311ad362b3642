"""Passage scorer: long passages of a document that stand word for word in an older one.

Near duplicates are alike as a whole; this finds the page that quotes, contains or collects others
(Lee et al. 2022, arXiv:2107.06499, who remove repeated runs of 50 tokens). A document is compared
with older ones alone, in the order (ordinal, id), so the older one is the original.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import map_shards, read_shard, shard_paths, write_shard
from components.core.store.workdir import Workdir
from components.text.dedup.long_passages import fingerprint_passages
from components.text.dedup.shingles import Positions

SOURCE = pa.struct([("id", pa.string()), ("share", pa.float64()), ("words", pa.int64())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("words", pa.int64(), nullable=False),
        pa.field("sources", pa.list_(SOURCE), nullable=False),  # older documents, most words first
    ]
)
SKETCH = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("ordinal", pa.int64()),
        pa.field("words", pa.int64()),
        pa.field("keys", pa.list_(pa.uint64())),
        pa.field("at", pa.list_(pa.int64())),
    ]
)


class PassagesConfig(StageConfig):
    """Length of a passage, and number of sources recorded for a document."""

    length: int = Field(default=50, ge=8, le=1000, description="words of a passage")
    guarantee: int = Field(
        default=16, ge=1, le=1000, description="a run longer by so many words is always found"
    )
    min_share: float = Field(
        default=0.1, ge=0, le=1, description="share of a document's words that a source must hold"
    )
    sources: int = Field(
        default=8, ge=1, le=64, description="most older documents that are recorded for a document"
    )


def score_passages(config: PassagesConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Older documents that hold passages of each document, with the share of it they hold.

    Args:
        config: Length of a passage, and bounds of what is recorded.
        corpus: The extracted documents.
        work: Folder of the scores.
    """
    folder = work.scratch / "fingerprints"
    map_shards(
        work,
        work.artifact_folder(corpus),
        fingerprint_shard,
        folder=folder,
        length=config.length,
        guarantee=config.guarantee,
    )
    paths = shard_paths(folder)
    table = pa.concat_tables(read_shard(path, SKETCH.names) for path in paths).combine_chunks()
    by_age = pc.sort_indices(table, [("ordinal", "ascending"), ("id", "ascending")])
    sources_of_rows = _find_sources(config, table, np.argsort(by_age.to_numpy()))
    first = 0
    for path in paths:
        size = len(read_shard(path, ["id"]))
        part = table.slice(first, size).select(["id", "ordinal", "words"])
        sources = sources_of_rows.slice(first, size)
        write_shard(work.folder / path.name, part.append_column(SCHEMA.field("sources"), sources))
        first += size
    with_sources = int(pc.sum(pc.greater(pc.list_value_length(sources_of_rows), 0)).as_py() or 0)
    return work.seal(
        Scores, stats={"documents": float(len(table)), "with_sources": float(with_sources)}
    )


def fingerprint_shard(table: pa.Table, length: int, guarantee: int) -> pa.Table:
    """Fingerprints of each document of a shard (in a worker).

    Args:
        table: Documents of the shard.
        length: Words of a passage.
        guarantee: A run longer by so many words is always found.
    """
    keys, at, owner, words = fingerprint_passages(table["text"], length, guarantee)
    bounds = np.searchsorted(owner, np.arange(len(table) + 1)).astype(np.int32)
    return pa.table(
        {
            "id": table["id"],
            "ordinal": table["ordinal"],
            "words": words,
            "keys": pa.ListArray.from_arrays(pa.array(bounds), pa.array(keys)),
            "at": pa.ListArray.from_arrays(pa.array(bounds), pa.array(at)),
        },
        schema=SKETCH,
    )


def _find_sources(config: PassagesConfig, table: pa.Table, age: Positions) -> pa.Array:
    """The ``sources`` of every row of ``table``.

    Args:
        age: place of every row in the order of age.
    """
    from components.text.kernels import passage_fingerprints as kernel

    keys = pc.list_flatten(table["keys"]).to_numpy()
    at = pc.list_flatten(table["at"]).to_numpy()
    row = np.repeat(np.arange(len(table)), pc.list_value_length(table["keys"]).to_numpy())
    order = np.lexsort((at, age[row], keys))
    prints, older = kernel.match_older_documents(keys, age[row], order, config.sources)
    pair = row[prints] * len(table) + older
    together = np.lexsort((at[prints], pair))
    pairs, group = np.unique(pair[together], return_inverse=True)
    words = kernel.count_covered_words(at[prints][together], group, len(pairs), config.length)
    document, source = pairs // len(table), np.argsort(age)[pairs % len(table)]
    share = np.round(words / table["words"].to_numpy()[document], 6)
    return _list_sources(config, table, document, source, share, words)


def _list_sources(
    config: PassagesConfig,
    table: pa.Table,
    document: Positions,
    source: Positions,
    share: np.ndarray[tuple[int], np.dtype[np.float64]],
    words: Positions,
) -> pa.Array:
    """Sources as one list a row: those with most words first, at most ``config.sources``."""
    order = np.lexsort((source, -words, document))
    order = order[share[order] >= config.min_share]
    owner = document[order]
    place = np.arange(len(order)) - np.searchsorted(owner, owner)
    order, owner = order[place < config.sources], owner[place < config.sources]
    bounds = np.searchsorted(owner, np.arange(len(table) + 1)).astype(np.int32)
    listed = pa.StructArray.from_arrays(
        [table["id"].combine_chunks().take(pa.array(source[order])), share[order], words[order]],
        fields=list(SOURCE),
    )
    return pa.ListArray.from_arrays(pa.array(bounds), listed)
