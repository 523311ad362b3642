"""Rule on personal data and secrets: redact, keep, or drop the page, kind by kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from components.clean.selection_rule import (
    MarkedSpan,
    Rule,
    RuleFinding,
    ScoredShard,
    compare_with_bounds,
)
from components.text.pii.find_pii import NAME_KINDS, PII_KINDS
from components.text.pii.redact import Redactor
from components.text.spans import EXAMPLE_SUFFIX, Span

Action = Literal["redact", "keep", "drop"]
MIN_WORDS = 100
"""Shorter pages count as this long: one address in a note of ten words is no list of addresses."""


class PiiRule(Rule):
    """Action on each kind of span, and the number of spans a page may hold."""

    roles = ("pii",)
    secret: Action = Field(default="redact", description="API keys, tokens, private keys")
    login: Action = Field(default="redact", description="user and password in an address")
    email: Action = Field(default="redact", description="e-mail addresses")
    iban: Action = Field(default="redact", description="bank accounts")
    card: Action = Field(default="redact", description="payment cards")
    national_id: Action = Field(
        default="redact", description="social security, tax, passport and licence numbers"
    )
    phone: Action = Field(default="redact", description="phone numbers")
    ip: Action = Field(default="redact", description="public IP addresses")
    person: Action = Field(default="redact", description="names of people, with pii.names.model")
    place: Action = Field(default="redact", description="places, with pii.names.model")
    examples: Action = Field(
        default="keep", description="example data of documentation, of any kind"
    )
    max_per_1000_words: float = Field(
        default=100,
        ge=0,
        description="most spans in 1,000 words, kept ones and names apart; address lists hold more",
    )

    def action_on(self, kind: str) -> Action:
        """Action on spans of ``kind`` (``email``, ``email_example`` ...)."""
        if kind.endswith(EXAMPLE_SUFFIX):
            return self.examples
        chosen: Action = getattr(self, kind)
        return chosen

    def redacted_kinds(self) -> frozenset[str]:
        """Kinds that are replaced by placeholders."""
        kinds = [kind + suffix for kind in PII_KINDS for suffix in ("", EXAMPLE_SUFFIX)] + [
            *NAME_KINDS
        ]
        return frozenset(kind for kind in kinds if self.action_on(kind) == "redact")

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        """Spans whose kind drops a page, and the density of those that are not kept."""
        dropping, removed = [], []
        for spans in shard.column("pii", "spans"):
            actions = [self.action_on(span["kind"]) for span in spans]
            dropping.append(actions.count("drop"))
            # A page of history is full of names; only what has a form of its own makes a list.
            names = sum(
                span["kind"] in NAME_KINDS and action != "keep"
                for span, action in zip(spans, actions, strict=True)
            )
            removed.append(len(actions) - actions.count("keep") - names)
        words = np.maximum(_word_counts(shard), MIN_WORDS)
        density = np.array(removed, dtype=np.float64) * 1000 / words
        return [
            compare_with_bounds("pii.forbidden", np.array(dropping, dtype=np.float64), at_most=0.0),
            compare_with_bounds("pii.density", density, at_most=self.max_per_1000_words),
        ]

    def mark_spans(self, shard: ScoredShard) -> list[list[MarkedSpan]]:
        return [
            [MarkedSpan(**span, action=self.action_on(span["kind"])) for span in spans]
            for spans in shard.column("pii", "spans")
        ]

    def edit_document(
        self, document: dict[str, Any], spans: Sequence[Span], shard: ScoredShard, row: int
    ) -> None:
        """Replace the spans of the text by placeholders, and what is found in other columns.

        Args:
            document: Its columns.
            spans: Personal data in its text, of every kind.
            shard: The shard the document comes from, for the names found beside the text.
            row: Its row there.
        """
        redactor = Redactor(self.redacted_kinds())
        names = names_of_fields(shard.scores["pii"]["names_beside"][row].as_py())
        document["text"] = redactor.replace(document["text"], spans)
        for field in ("title", "navigation"):
            document[field] = redactor.redact(document[field], names.get((field, 0), ()))
        for field in ("headings", "code"):
            document[field] = [
                redactor.redact(part, names.get((field, number), ()))
                for number, part in enumerate(document[field])
            ]


def _word_counts(shard: ScoredShard) -> NDArray[np.float64]:
    """Words of each document: as the quality scorer counted them, else by white space."""
    if "quality" in shard.scores:
        return np.asarray(shard.scores["quality"]["words"].to_numpy(), dtype=np.float64)
    texts = shard.documents["text"].to_pylist()
    return np.array([len(text.split()) for text in texts], dtype=np.float64)


def names_of_fields(
    rows: Sequence[Mapping[str, Any]],
) -> dict[tuple[str, int], list[Span]]:
    """(field, part) -> spans, of one document's ``names_beside``."""
    names: dict[tuple[str, int], list[Span]] = {}
    for row in rows:
        spans = names.setdefault((row["field"], row["part"]), [])
        spans.append(Span(row["start"], row["end"], row["kind"]))
    return names
