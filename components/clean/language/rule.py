"""Rule on languages: the probability of the allowed ones, and their share of a longer page."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from components.clean.language.language_codes import expand_codes
from components.clean.selection_rule import Rule, RuleFinding, ScoredShard, compare_with_bounds


class LanguageRule(Rule):
    """Languages that stay.

    A page is dropped where the allowed languages are all but ruled out, or have next to no share of
    its letters. Both bounds are low, since lists of names and products resemble many languages: of
    pages in English 1 in 100 is below 0.02 at 25 to 100 letters, none of 514 from 400 on.
    """

    roles = ("language",)
    allowed: tuple[str, ...] = Field(
        default=("en",),
        description="ISO 639 codes that stay, macrolanguages with their members; empty: any",
    )
    min_probability: float = Field(
        default=0.02, ge=0, le=1, description="smallest probability of the allowed languages"
    )
    min_letters: int = Field(
        default=25,
        ge=0,
        description="pages with fewer letters of prose pass: they say too little of their language",
    )
    min_share: float = Field(
        default=0.2, ge=0, le=1, description="smallest share of a page's letters in them"
    )
    min_share_letters: int = Field(
        default=400,
        ge=0,
        description="pages with fewer letters of prose are a segment or two, so their share passes",
    )

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        if not self.allowed:
            return []
        allowed = expand_codes(self.allowed)
        probabilities, shares = [], []
        for letters, candidates, measured in zip(
            shard.column("language", "letters"),
            shard.column("language", "candidates"),
            shard.column("language", "shares"),
            strict=True,
        ):
            is_judged = letters >= self.min_letters and bool(measured)  # code has no language
            probability = sum(c["confidence"] for c in candidates if c["language"] in allowed)
            share = sum(part["share"] for part in measured if part["language"] in allowed)
            probabilities.append(probability if is_judged else 1.0)
            is_judged = is_judged and letters >= self.min_share_letters
            shares.append(share if is_judged else 1.0)
        return [
            compare_with_bounds(
                name, np.array(values, dtype=np.float64).round(4), at_least=at_least
            )
            for name, values, at_least in (
                ("language", probabilities, self.min_probability),
                ("language.share", shares, self.min_share),
            )
        ]
