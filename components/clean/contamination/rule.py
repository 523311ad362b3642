"""Rule on evaluation items in the corpus, with the item's name in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.clean.selection_rule import BoundsRule, KeptOriginal, ScoredShard


class ContaminationRule(BoundsRule):
    """Largest part of an evaluation item that a page may hold."""

    roles = ("contamination",)
    ledger_fields = (
        pa.field("item", pa.string()),  # the evaluation item it holds most of: file and row
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

    def ledger_columns(
        self, shard: ScoredShard, originals: Mapping[str, KeptOriginal]
    ) -> list[list[Any]]:
        return [[item or None for item in shard.column("contamination", "item")]]
