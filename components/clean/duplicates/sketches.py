"""Sketches of all documents for the duplicate search, in the order of age.

The order is (ordinal, id): of two equal documents the one of the earlier crawl is the original.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from components.core.store.shards import read_shard, shard_paths

PARTNER = pa.struct([("id", pa.string()), ("similarity", pa.float64())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("ordinal", pa.int64(), nullable=False),
        pa.field("exact_group", pa.string(), nullable=False),  # id of the group's first document
        pa.field("partners", pa.list_(PARTNER), nullable=False),  # exact groups, by their names
    ]
)
SKETCH = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("ordinal", pa.int64()),
        pa.field("exact", pa.binary(16)),
        pa.field("shingles", pa.int64()),  # how many, repeats counted
        pa.field("bands", pa.list_(pa.uint64())),
    ]
)

Positions = NDArray[np.int64]


class Sketches:
    """All documents in the order (ordinal, id), and the first document of each exact group."""

    def __init__(self, folder: Path) -> None:
        tables = [read_shard(path, ["id", "ordinal", "exact"]) for path in shard_paths(folder)]
        sizes = [len(table) for table in tables]
        table = pa.concat_tables(tables).combine_chunks()
        order = pc.sort_indices(table, [("ordinal", "ascending"), ("id", "ascending")])
        table = table.take(order)
        self.order: Positions = order.to_numpy().astype(np.int64)
        """Row of each document when the shards' rows are counted through."""
        self.shard: Positions = np.repeat(np.arange(len(sizes)), sizes)[self.order]
        self.row: Positions = np.concatenate([np.arange(size) for size in sizes])[self.order]
        self.ids: pa.Array = table["id"].combine_chunks()
        self.ordinals: pa.Array = table["ordinal"].combine_chunks()
        digests = np.frombuffer(table["exact"].combine_chunks().buffers()[1], dtype="V16")
        _, first, member = np.unique(digests[: len(table)], return_index=True, return_inverse=True)
        self.group: Positions = first[member]
        """First document that equals each: its exact group."""
        self._folder = folder

    def __len__(self) -> int:
        return len(self.ids)

    def band_keys(self) -> tuple[Positions, NDArray[np.uint64]]:
        """(document, keys of its bands) of group firsts that have a shingle."""
        tables = [read_shard(path, ["shingles", "bands"]) for path in shard_paths(self._folder)]
        table = pa.concat_tables(tables)
        shingles = table["shingles"].to_numpy()[self.order]
        chosen = np.flatnonzero((self.group == np.arange(len(self))) & (shingles > 0))
        keys = pc.list_flatten(table["bands"]).to_numpy().reshape(len(self), -1)
        return chosen, keys[self.order[chosen]]

    def score_table(self, shard: int, partners: Partners) -> pa.Table:
        """Scores of one shard, in its order."""
        documents = np.flatnonzero(self.shard == shard)
        documents = documents[np.argsort(self.row[documents])]
        group = self.group[documents]
        offsets, neighbours, similarities = partners.look_up(group)
        near = pa.StructArray.from_arrays(
            [self.ids.take(pa.array(neighbours)), pa.array(similarities)], fields=list(PARTNER)
        )
        columns = {
            "id": self.ids.take(pa.array(documents)),
            "ordinal": self.ordinals.take(pa.array(documents)),
            "exact_group": self.ids.take(pa.array(group)),
            "partners": pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), near),
        }
        return pa.table(columns, schema=SCHEMA)


class Partners:
    """Verified pairs, looked up by either document."""

    def __init__(
        self, left: Positions, right: Positions, similarity: NDArray[np.float64], documents: int
    ) -> None:
        ours, neighbours = np.concatenate((left, right)), np.concatenate((right, left))
        order = np.lexsort((neighbours, ours))
        self._others = neighbours[order]
        self._similarity = np.concatenate((similarity, similarity))[order]
        self._ends = np.concatenate(([0], np.cumsum(np.bincount(ours, minlength=documents))))

    def look_up(self, documents: Positions) -> tuple[Positions, Positions, NDArray[np.float64]]:
        """(bounds of each document's partners, the partners in their order, similarities)."""
        starts = self._ends[documents]
        counts = self._ends[documents + 1] - starts
        offsets = np.concatenate(([0], np.cumsum(counts)))
        rows = np.repeat(starts - offsets[:-1], counts) + np.arange(offsets[-1])
        return offsets, self._others[rows], self._similarity[rows]
