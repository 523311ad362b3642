"""Rule on licences, with the licence in the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from components.clean.selection_rule import (
    KeptOriginal,
    Rule,
    RuleFinding,
    ScoredShard,
    compare_with_bounds,
)


class LicenceRule(Rule):
    """Licences that stay, by the signs that pages show."""

    roles = ("licence",)
    ledger_fields = (
        pa.field("licence", pa.string()),  # SPDX identifier of the strongest sign
    )
    forbidden: tuple[str, ...] = Field(
        default=(), description="SPDX identifiers, with * for any part: CC-BY-NC*, LicenseRef-*"
    )
    required: bool = Field(default=False, description="drop pages that show no licence")

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        """1 where the licence is forbidden, or is missing and required."""
        refused = [
            float(
                any(fnmatchcase(licence, pattern) for pattern in self.forbidden)
                or (self.required and not licence)
            )
            for licence in shard.column("licence", "licence")
        ]
        return [compare_with_bounds("licence", np.array(refused, dtype=np.float64), at_most=0.0)]

    def ledger_columns(
        self, shard: ScoredShard, originals: Mapping[str, KeptOriginal]
    ) -> list[list[Any]]:
        return [[licence or None for licence in shard.column("licence", "licence")]]
