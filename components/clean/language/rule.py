"""Rule on languages: the distance of the best allowed language from the best of all."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from components.clean.selection_rule import Rule, RuleFinding, ScoredShard, compare_with_bounds


class LanguageRule(Rule):
    """Languages that stay. Technical prose is hard to tell apart, so the bound is a distance."""

    roles = ("language",)
    allowed: tuple[str, ...] = Field(
        default=("en",), description="ISO 639-1 codes that stay; empty: any language"
    )
    max_distance: float = Field(
        default=0.08,
        ge=0,
        le=1,
        description="confidence that the best allowed language may lie below the best of all",
    )
    min_letters: int = Field(
        default=400,
        ge=0,
        description="pages with fewer letters of prose pass: they say too little of their language",
    )
    min_confidence: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="pages whose best language is less certain pass (lists of names)",
    )
    min_share: float = Field(
        default=0, ge=0, le=1, description="smallest share of a page's letters in allowed languages"
    )

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        if not self.allowed:
            return []
        distances, shares = [], []
        for letters, confidence, candidates, measured in zip(
            shard.column("language", "letters"),
            shard.column("language", "confidence"),
            shard.column("language", "candidates"),
            shard.column("language", "shares"),
            strict=True,
        ):
            best = max(
                (c["confidence"] for c in candidates if c["language"] in self.allowed),
                default=None,
            )
            certain = letters >= self.min_letters and confidence >= self.min_confidence
            distance = confidence - best if best is not None else 1.0
            share = sum(part["share"] for part in measured if part["language"] in self.allowed)
            distances.append(distance if certain else 0.0)
            shares.append(share if certain else 1.0)
        return [
            compare_with_bounds(
                "language",
                np.array(distances, dtype=np.float64).round(4),
                at_most=self.max_distance,
            ),
            compare_with_bounds(
                "language.share",
                np.array(shares, dtype=np.float64).round(4),
                at_least=self.min_share,
            ),
        ]
