"""Decides which documents are dropped for another that stays.

Greedy, in the order (ordinal, id), among the documents that pass every other rule: a document is
dropped only for one that is really kept, so nothing is removed by transitivity alone, and several
increments keep what one batch would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from components.clean.rules import DuplicateRules, Finding, failing
from components.core.store.shards import zip_shards

DUPLICATES, PASSAGES = "duplicates", "passages"
Judge = Callable[[pa.Table, Mapping[str, pa.Table]], list[Finding]]


@dataclass(frozen=True)
class Twin:
    """The kept document that a dropped one equals or stands in, and how nearly."""

    id: str
    similarity: float
    """Jaccard of shingles; for a contained document its share of words."""
    rule: str = DUPLICATES


@dataclass(frozen=True)
class _Candidate:
    """A document that passes every other rule."""

    ordinal: int
    id: str
    group: str
    partners: list[tuple[float, str]] = field(default_factory=list)
    """(similarity, exact group)"""
    sources: list[tuple[float, str]] = field(default_factory=list)
    """(share of its words, older document)"""


def find_twins(
    rules: DuplicateRules, corpus: Path, scores: Mapping[str, Path], judge: Judge
) -> dict[str, Twin]:
    """Documents that pass every other rule but are twins of a kept one -> that one."""
    if not scores.keys() & {DUPLICATES, PASSAGES}:
        return {}
    kept_of: dict[str, str] = {}
    kept: set[str] = set()
    twins: dict[str, Twin] = {}
    for one in sorted(_passing(corpus, scores, judge), key=lambda one: (one.ordinal, one.id)):
        twin = _twin(rules, one, kept_of) or _container(rules, one, kept)
        if twin is None:
            kept_of.setdefault(one.group, one.id)
            kept.add(one.id)
        else:
            twins[one.id] = twin
    return twins


def _passing(corpus: Path, scores: Mapping[str, Path], judge: Judge) -> Iterator[_Candidate]:
    for _, table, beside in zip_shards(corpus, scores):
        reasons = failing(judge(table, beside))
        ordinals, ids = table["ordinal"].to_pylist(), table["id"].to_pylist()
        groups = ids
        partners: list[list[dict[str, Any]]] = [[]] * len(ids)
        sources: list[list[dict[str, Any]]] = [[]] * len(ids)
        if DUPLICATES in beside:
            groups = beside[DUPLICATES]["exact_group"].to_pylist()
            partners = beside[DUPLICATES]["partners"].to_pylist()
        if PASSAGES in beside:
            sources = beside[PASSAGES]["sources"].to_pylist()
        for at in range(len(ids)):
            if at not in reasons:
                near = [(partner["similarity"], partner["id"]) for partner in partners[at]]
                held = [(source["share"], source["id"]) for source in sources[at]]
                yield _Candidate(ordinals[at], ids[at], groups[at], near, held)


def _twin(rules: DuplicateRules, one: _Candidate, kept_of: Mapping[str, str]) -> Twin | None:
    if rules.exact and one.group in kept_of:
        return Twin(kept_of[one.group], 1.0)
    near = [
        (similarity, kept_of[partner])
        for similarity, partner in one.partners
        if similarity >= rules.max_similarity and partner in kept_of
    ]
    if not near:
        return None
    similarity, identifier = min(near, key=lambda pair: (-pair[0], pair[1]))
    return Twin(identifier, similarity)


def _container(rules: DuplicateRules, one: _Candidate, kept: set[str]) -> Twin | None:
    """The older kept document that holds most of this one, where that is too much."""
    for share, identifier in one.sources:
        if share > rules.max_contained and identifier in kept:
            return Twin(identifier, share, PASSAGES)
    return None
