"""Rule on evaluation items in the corpus, with item, form and place in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field, model_validator

from components.clean.selection_rule import (
    KeptOriginal,
    Rule,
    RuleFinding,
    ScoredShard,
    compare_with_bounds,
)


class ContaminationRule(Rule):
    """Largest part of an evaluation item that a page may hold, and more of one that says little.

    A page is dropped from an overlap of ``max_overlap`` on where the match has ``full_information``
    or ``full_run`` words in a row (the longest run tells most: Singh et al. 2024,
    arXiv:2411.03923). With less the overlap must be larger, up to the whole item at
    ``least_information``. The ledger's score is the overlap less what is asked beyond
    ``max_overlap``.
    """

    roles = ("contamination",)
    ledger_fields = (
        pa.field("item", pa.string()),  # the evaluation item it holds most of: file and row
        pa.field("item_form", pa.string()),  # verbatim, edited, interrupted, moved or part
        pa.field("item_start", pa.int64()),  # offsets in characters of the document's text
        pa.field("item_end", pa.int64()),
    )
    max_overlap: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description=(
            "largest share of an item's weight that a page may hold; overlaps below "
            "contamination.least are not recorded"
        ),
    )
    full_information: float = Field(
        default=2.5,
        gt=0,
        description="weight found (1 is one rare word) from which max_overlap is the bound",
    )
    full_run: float = Field(
        default=6,
        ge=3,
        description="words found in a row from which max_overlap is the bound, if they have "
        "least_information",
    )
    least_information: float = Field(
        default=0.8, ge=0, description="weight found at which the whole item must stand there"
    )

    @model_validator(mode="after")
    def _check_order(self) -> ContaminationRule:
        if self.least_information >= self.full_information:
            raise ValueError("least_information must be smaller than full_information")
        return self

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        scores = np.array(
            [
                max((self.discount_overlap(match) for match in matches), default=0.0)
                for matches in shard.column("contamination", "matches")
            ]
        )
        return [compare_with_bounds("contamination.overlap", scores, at_most=self.max_overlap)]

    def ledger_columns(
        self, shard: ScoredShard, originals: Mapping[str, KeptOriginal]
    ) -> list[list[Any]]:
        worst = [
            max(matches or [{}], key=self.discount_overlap)
            for matches in shard.column("contamination", "matches")
        ]
        return [[match.get(name) for match in worst] for name in ("item", "form", "start", "end")]

    def discount_overlap(self, match: Mapping[str, Any]) -> float:
        """Overlap of a match less what is asked of it beyond ``max_overlap``; 0 without a match."""
        overlap = float(match.get("overlap", 0.0))
        lack = self.full_information - float(match.get("information", 0.0))
        share = min(1.0, max(0.0, lack / (self.full_information - self.least_information)))
        if match.get("longest_run", 0.0) >= self.full_run and share < 1:
            share = 0.0
        return max(0.0, overlap - share * (1 - self.max_overlap))
