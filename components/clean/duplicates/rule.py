"""Rule on copies: exact and near duplicates, and pages contained in an older one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.clean.duplicates.dedup_decision import (
    DUPLICATES,
    PASSAGES,
    Candidate,
    choose_originals,
)
from components.clean.selection_rule import CorpusRule, KeptOriginal, ScoredShard


class DuplicateRule(CorpusRule):
    """Bounds from which a document repeats one that is kept."""

    roles = (DUPLICATES, PASSAGES)
    ledger_fields = (
        pa.field("duplicate_of", pa.string()),  # the kept document this one was dropped for
        pa.field("similarity", pa.float64()),
        pa.field("max_similarity", pa.float64()),  # the bound on it
    )
    exact: bool = Field(default=True, description="drop documents of equal normalised text")
    max_similarity: float = Field(
        default=0.8,
        ge=0.5,
        le=1,
        description="Jaccard similarity of word 5-shingles from which a near duplicate is dropped",
    )
    max_contained: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="share of a page's words in long passages of one older page that is kept",
    )

    def find_originals(
        self, passing: Iterable[tuple[ScoredShard, list[int]]]
    ) -> dict[str, KeptOriginal]:
        return choose_originals(
            _candidates(passing), self.exact, self.max_similarity, self.max_contained
        )

    def ledger_columns(
        self, shard: ScoredShard, originals: Mapping[str, KeptOriginal]
    ) -> list[list[Any]]:
        kept_originals = [
            originals.get(identifier) for identifier in shard.documents["id"].to_pylist()
        ]
        return [
            [original and original.id for original in kept_originals],
            [original and original.similarity for original in kept_originals],
            [
                self.max_contained
                if original is not None and original.rule == PASSAGES
                else self.max_similarity
                for original in kept_originals
            ],
        ]


def _candidates(passing: Iterable[tuple[ScoredShard, list[int]]]) -> Iterator[Candidate]:
    for shard, rows in passing:
        ordinals, ids = (shard.documents[name].to_pylist() for name in ("ordinal", "id"))
        groups = shard.column(DUPLICATES, "exact_group")
        partners = shard.column(DUPLICATES, "partners")
        sources = shard.column(PASSAGES, "sources")
        for row in rows:
            yield Candidate(
                ordinals[row],
                ids[row],
                groups[row] or ids[row],
                [(partner["similarity"], partner["id"]) for partner in partners[row] or ()],
                [(source["share"], source["id"]) for source in sources[row] or ()],
            )
