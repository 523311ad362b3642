"""Rule on a site's own frame: lines that recur over its pages are cut out of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from components.clean.selection_rule import MarkedSpan, Rule, ScoredShard

SITE_LINE = "site_line"


class SiteLineRule(Rule):
    """Bounds from which a line counts as a site's own frame, and is cut out of its pages."""

    roles = ("site_lines",)
    cuts = (SITE_LINE,)
    min_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="share of a site's pages with a line in head or foot from which it is cut; "
        "above 1/2 none of a page's own words is likely to be",
    )
    min_documents: int = Field(
        default=10,
        ge=2,
        description="fewest pages of a site whose lines are cut; fewer say too little",
    )
    max_cut: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest share of a page's text that is cut; a page above it stays whole",
    )

    def mark_spans(self, shard: ScoredShard) -> list[list[MarkedSpan]]:
        texts = shard.documents["text"].to_pylist()
        rows = shard.scores["site_lines"].to_pylist()
        return [
            [MarkedSpan(*place, SITE_LINE, "cut") for place in self.find_cuts(text, row)]
            for text, row in zip(texts, rows, strict=True)
        ]

    def find_cuts(self, text: str, scores: Mapping[str, Any]) -> list[tuple[int, int]]:
        """(start, end) of the lines of ``text`` to cut, each with the line ends after it.

        Args:
            text: A document's text.
            scores: Its row of ``site_lines``.
        """
        if scores["site_documents"] < self.min_documents:
            return []
        frame = [line for line in scores["lines"] if line["share"] >= self.min_share]
        if sum(line["end"] - line["start"] for line in frame) > self.max_cut * len(text):
            return []
        return [(line["start"], _next_line(text, line["end"])) for line in frame]


def _next_line(text: str, offset: int) -> int:
    """Offset at which the next line that is not empty begins."""
    while text.startswith("\n", offset):
        offset += 1
    return offset
