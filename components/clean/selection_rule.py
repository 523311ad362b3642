"""Selection rules: the interface between ``select`` and what it decides by.

A scorer is a folder: ``score.py`` measures documents, ``rule.py`` holds the thresholds on what was
measured, as a subclass of ``Rule``. ``score.py`` never imports ``rule.py``, so a threshold changes
without scoring again; and ``select`` knows this base class alone. A run's config names the rules
it wants as fields (``TextSelectConfig``), and the order of these fields is that of the ledger.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, model_validator

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.text.spans import Span

SpanAction = Literal["redact", "keep", "drop", "cut"]
Bound = float | NDArray[np.float64] | None
"""Bound of all documents of a shard, of each of them (NaN: none), or none."""
Quantile = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class ScoredShard:
    """Documents of one shard beside their scores, row by row."""

    documents: pa.Table
    scores: Mapping[str, pa.Table]
    """Role -> scores of the same documents in the same order."""
    quantile_bounds: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    """Bound as ``role.min_x`` -> its value for each document; NaN where there is none."""

    def column(self, role: str, name: str) -> list[Any]:
        """Values of a column of ``role``; None for every document where the role is not given.

        Raises:
            DataError: the scores of the role hold no such column.
        """
        if role not in self.scores:
            return [None] * len(self.documents)
        values: list[Any] = self._scored_column(role, name).to_pylist()
        return values

    def numbers(self, role: str, name: str) -> NDArray[np.float64]:
        """Values of a column of numbers; NaN where one is null.

        Raises:
            DataError: the scores of the role hold no such column, or none of numbers.
        """
        column = self._scored_column(role, name)
        try:
            values: NDArray[np.float64] = column.to_numpy().astype(np.float64)
        except (TypeError, ValueError, NotImplementedError) as error:
            raise DataError(
                f"scores {role}: column {name!r} is of type {column.type}, and bounds need numbers"
            ) from error
        return values

    def _scored_column(self, role: str, name: str) -> pa.ChunkedArray:
        table = self.scores[role]
        if name not in table.column_names:
            held = ", ".join(table.column_names)
            raise DataError(f"scores {role}: hold no column {name!r}; they hold {held}")
        return table[name]


@dataclass(frozen=True)
class RuleFinding:
    """Scores of a shard's documents under one rule, its bounds, and the documents that pass."""

    rule: str
    scores: NDArray[np.float64]
    at_least: Bound
    at_most: Bound
    passed: NDArray[np.bool_]


class MarkedSpan(NamedTuple):
    """A stretch of a document's text with what happens to it: a row of the ledger's ``spans``."""

    start: int
    end: int
    kind: str
    action: SpanAction


@dataclass(frozen=True)
class KeptOriginal:
    """The kept document that a dropped one repeats, and how nearly."""

    id: str
    similarity: float
    """Jaccard of shingles; for a contained document its share of words."""
    rule: str
    """Name of the rule that dropped the copy."""


class Rule(StageConfig):
    """Thresholds on the scores of a role, and what they mean for each document.

    A rule applies where one of its roles is given. Each method has a default that does nothing; a
    rule that only bounds columns is a ``BoundsRule`` and needs none of them.
    """

    roles: ClassVar[tuple[str, ...]]
    """Roles of the scores that the rule is made for."""
    ledger_fields: ClassVar[tuple[pa.Field, ...]] = ()
    """Columns that the rule adds to the ledger."""
    cuts: ClassVar[tuple[str, ...]] = ()
    """Kinds of spans that the rule may cut out; the stat ``<kind>s_cut`` counts them."""

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        """Verdicts on each document by itself; the ledger lists them in this order."""
        return []

    def mark_spans(self, shard: ScoredShard) -> list[list[MarkedSpan]]:
        """For each document, spans of its text with what happens to them, sorted and apart."""
        return [[] for _ in range(len(shard.documents))]

    def edit_document(
        self, document: dict[str, Any], spans: Sequence[Span], shard: ScoredShard, row: int
    ) -> None:
        """Change a document that is kept, in place.

        Args:
            document: Its columns; what any rule marked to be cut is gone from the text.
            spans: The rule's own marks as they lie in that text.
            shard: The shard the document comes from.
            row: Its row there.
        """

    def ledger_columns(
        self, shard: ScoredShard, originals: Mapping[str, KeptOriginal]
    ) -> list[list[Any]]:
        """Values of ``ledger_fields``, a list for each; asked for also where no role is given.

        Args:
            shard: The documents, dropped ones too.
            originals: Dropped document -> the kept one it repeats, over the whole corpus.
        """
        return []


class BoundsRule(Rule):
    """Inclusive bounds: field ``min_x`` or ``max_x`` against column ``x`` of the rule's role."""

    quantiles: dict[str, Quantile] = Field(
        default={},
        description="bounds as quantiles of the corpus's scores in place of values: "
        "{min_x: 0.7} drops the lowest 70 %, {max_x: 0.99} the highest 1 %",
    )
    quantiles_by: Literal["corpus", "language", "site"] = Field(
        default="corpus",
        description="documents that a quantile is taken of: all, or those of the same language or "
        "site, where these are 100 or more",
    )

    @model_validator(mode="after")
    def _check_quantiles(self) -> BoundsRule:
        bounds = self.bound_fields()
        if self.quantiles_by != "corpus" and not self.quantiles:
            raise ValueError(
                f"quantiles_by: {self.quantiles_by} without quantiles has no effect; "
                f"name a bound: quantiles: {{{bounds[0]}: …}}"
            )
        for name, quantile in self.quantiles.items():
            if name not in bounds:
                raise ValueError(f"quantiles: no bound {name!r}; bounds: {', '.join(bounds)}")
            value = getattr(self, name)
            if value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is bounded by a value ({value:g}) and by a quantile ({quantile:g}): "
                    "leave one out"
                )
            side, _, column = name.partition("_")
            most = self.quantiles.get(f"max_{column}", 1.0)
            if side == "min" and quantile >= most:
                raise ValueError(
                    f"quantiles: min_{column} ({quantile:g}) must be below max_{column} "
                    f"({most:g}): no document would pass"
                )
        return self

    @classmethod
    def bound_fields(cls) -> list[str]:
        """Names of the fields that are bounds, in their order."""
        return [name for name in cls.model_fields if name.startswith(("min_", "max_"))]

    def check_documents(self, shard: ScoredShard) -> list[RuleFinding]:
        (role,) = self.roles
        bounds: dict[str, dict[str, Bound]] = {}
        for name in self.bound_fields():
            side, _, column = name.partition("_")
            # Until the quantiles of the corpus are known, their bounds drop nothing.
            bound: Bound = (
                shard.quantile_bounds.get(f"{role}.{name}")
                if name in self.quantiles
                else float(getattr(self, name))
            )
            bounds.setdefault(column, {})[side] = bound
        return [
            compare_with_bounds(
                f"{role}.{column}",
                shard.numbers(role, column),
                sides.get("min"),
                sides.get("max"),
            )
            for column, sides in bounds.items()
        ]


class CorpusRule(Rule):
    """A rule on documents together, asked about those that pass every other rule."""

    def find_originals(
        self, passing: Iterable[tuple[ScoredShard, list[int]]]
    ) -> dict[str, KeptOriginal]:
        """Documents to drop -> the kept document that each repeats.

        Args:
            passing: Every shard of the corpus with the rows that pass, read once.
        """
        raise NotImplementedError


def compare_with_bounds(
    rule: str,
    scores: NDArray[np.float64],
    at_least: Bound = None,
    at_most: Bound = None,
) -> RuleFinding:
    """The finding of a rule that compares a score with its bounds, both inclusive.

    Args:
        rule: Its name in the ledger.
        scores: [documents]
        at_least: Lower bound.
        at_most: Upper bound.
    """
    passed = np.ones(len(scores), dtype=bool)
    if at_least is not None:
        passed &= (scores >= at_least) | np.isnan(at_least)
    if at_most is not None:
        passed &= (scores <= at_most) | np.isnan(at_most)
    return RuleFinding(rule, scores, at_least, at_most, passed)
