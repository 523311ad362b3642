"""Rule on the published quality statistics, with bounds widened for Markdown with code."""

from __future__ import annotations

import re
from dataclasses import replace

from pydantic import Field

from components.clean.selection_rule import BoundsRule, RuleFinding, ScoredShard

MAX_UNSPACED = 0.2
"""Share of characters in scripts without spaces above which counts of words say nothing."""
_OF_WORDS = re.compile(
    r"quality\.(words|mean_word_length|symbol_ratio|alphabetic_words|stop_words|sentences|.*gram)"
)


class QualityRule(BoundsRule):
    """Bounds on the published statistics, widened for Markdown with code.

    The published bound, made for prose, stands in brackets in each description.
    """

    roles = ("quality",)
    min_words: int = Field(default=10, ge=0, description="fewest words outside code (Gopher 50)")
    max_words: int = Field(
        default=1_000_000, ge=1, description="most words outside code (Gopher 100,000)"
    )
    min_mean_word_length: float = Field(
        default=2, ge=0, description="shortest words in the mean, in characters (Gopher 3)"
    )
    max_mean_word_length: float = Field(
        default=40, ge=1, description="longest words in the mean, in characters (Gopher 10)"
    )
    max_symbol_ratio: float = Field(
        default=0.3, ge=0, description="most # and ellipses a word (Gopher 0.1)"
    )
    max_bullet_lines: float = Field(
        default=0.95,
        ge=0,
        le=1,
        description="largest share of lines that begin with a bullet (Gopher 0.9)",
    )
    max_ellipsis_lines: float = Field(
        default=0.3,
        ge=0,
        le=1,
        description="largest share of lines that end with an ellipsis (Gopher 0.3)",
    )
    min_alphabetic_words: float = Field(
        default=0.4, ge=0, le=1, description="smallest share of words with a letter (Gopher 0.8)"
    )
    min_stop_words: int = Field(
        default=0,
        ge=0,
        le=8,
        description="fewest of eight English stop words that occur (Gopher 2)",
    )
    min_sentences: int = Field(default=0, ge=0, description="fewest sentences (C4 3)")
    max_lorem_ipsum: int = Field(
        default=1, ge=0, description='most occurrences of "lorem ipsum" (C4 0)'
    )
    max_curly_braces: int = Field(default=1_000_000, ge=0, description="most curly braces (C4 0)")
    min_punctuated_lines: float = Field(
        default=0,
        ge=0,
        le=1,
        description="smallest share of lines that end in punctuation (FineWeb 0.12)",
    )
    max_short_lines: float = Field(
        default=1, ge=0, le=1, description="largest share of short lines (FineWeb 0.67)"
    )
    max_code_share: float = Field(
        default=1, ge=0, le=1, description="largest share of characters inside code"
    )
    max_duplicate_lines: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of lines that occurred before (Gopher 0.3)",
    )
    max_duplicate_line_characters: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in such lines (Gopher 0.2, FineWeb 0.1)",
    )
    max_duplicate_paragraphs: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of paragraphs that occurred before (Gopher 0.3)",
    )
    max_duplicate_paragraph_characters: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in such paragraphs (Gopher 0.2)",
    )
    max_top_2gram: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest share of characters in the most frequent 2-gram (Gopher 0.20)",
    )
    max_top_3gram: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest share of characters in the most frequent 3-gram (Gopher 0.18)",
    )
    max_top_4gram: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="largest share of characters in the most frequent 4-gram (Gopher 0.16)",
    )
    max_duplicate_5gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 5 words (Gopher 0.15)",
    )
    max_duplicate_6gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 6 words (Gopher 0.14)",
    )
    max_duplicate_7gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 7 words (Gopher 0.13)",
    )
    max_duplicate_8gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 8 words (Gopher 0.12)",
    )
    max_duplicate_9gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 9 words (Gopher 0.11)",
    )
    max_duplicate_10gram: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="largest share of characters in repeated runs of 10 words (Gopher 0.10)",
    )

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        """Bounds; those that rest on words are not held against a page written without spaces.

        Chinese, Japanese or Thai have no words by white space, as which the published rules count
        them.
        """
        unspaced = shard.scores["quality"]["unspaced"].to_numpy() > MAX_UNSPACED
        return [
            replace(finding, passed=finding.passed | unspaced)
            if _OF_WORDS.fullmatch(finding.rule)
            else finding
            for finding in super().check_documents(shard)
        ]
