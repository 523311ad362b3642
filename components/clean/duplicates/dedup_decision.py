"""Greedy choice of the documents that are dropped for another one that stays.

Documents that pass every other rule are taken oldest crawl first, then by id. A document is dropped
only for one that is really kept, so nothing is removed by transitivity alone, and successive
crawls keep what one batch would.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from components.clean.selection_rule import KeptOriginal

DUPLICATES, PASSAGES = "duplicates", "passages"


@dataclass(frozen=True)
class Candidate:
    """A document that passes every other rule."""

    ordinal: int
    id: str
    group: str
    """Group of documents with equal normalised text; its own id where duplicates are not scored."""
    partners: list[tuple[float, str]]
    """(similarity, group of equal text) of near duplicates."""
    containers: list[tuple[float, str]]
    """(share of its words, older document that holds them)."""


def choose_originals(
    candidates: Iterable[Candidate], exact: bool, max_similarity: float, max_contained: float
) -> dict[str, KeptOriginal]:
    """Documents that repeat a kept one -> that one.

    Args:
        candidates: In any order.
        exact: Drop documents of equal normalised text.
        max_similarity: Jaccard similarity from which a document is dropped.
        max_contained: Share of a document's words above which an older one contains it.
    """
    kept_of_group: dict[str, str] = {}
    kept_ids: set[str] = set()
    originals: dict[str, KeptOriginal] = {}
    for candidate in sorted(candidates, key=lambda document: (document.ordinal, document.id)):
        original = _exact_original(candidate, kept_of_group) if exact else None
        original = original or _near_original(candidate, kept_of_group, max_similarity)
        original = original or _container(candidate, kept_ids, max_contained)
        if original is None:
            kept_of_group.setdefault(candidate.group, candidate.id)
            kept_ids.add(candidate.id)
        else:
            originals[candidate.id] = original
    return originals


def _exact_original(candidate: Candidate, kept_of_group: Mapping[str, str]) -> KeptOriginal | None:
    identifier = kept_of_group.get(candidate.group)
    return None if identifier is None else KeptOriginal(identifier, 1.0, DUPLICATES)


def _near_original(
    candidate: Candidate, kept_of_group: Mapping[str, str], max_similarity: float
) -> KeptOriginal | None:
    near = [
        (similarity, kept_of_group[partner])
        for similarity, partner in candidate.partners
        if similarity >= max_similarity and partner in kept_of_group
    ]
    if not near:
        return None
    similarity, identifier = min(near, key=lambda pair: (-pair[0], pair[1]))
    return KeptOriginal(identifier, similarity, DUPLICATES)


def _container(
    candidate: Candidate, kept_ids: set[str], max_contained: float
) -> KeptOriginal | None:
    """The older kept document that holds most of this one, where that is too much."""
    for share, identifier in candidate.containers:
        if share > max_contained and identifier in kept_ids:
            return KeptOriginal(identifier, share, PASSAGES)
    return None
