"""Copies among conversations: equal and nearly equal ones, and beginnings of longer ones.

Two conversations are near duplicates where their turns are alike as a whole, *and* their questions
are, *and* their answers: one long text with two questions about it, one question under two
instructions, or one form of answer for two products makes two conversations.
A log that writes a row a request holds each conversation many times, from its first answer on; the
longest has all of it. Training ones come first, so that a held-out one which training knows is
left out of the held-out ones.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from components.clean.duplicates.dedup_decision import Candidate, choose_originals
from components.clean.duplicates.rule import DuplicateRule
from components.clean.selection_rule import KeptOriginal
from components.core.store.shards import read_shards
from components.text.dedup.shingles import jaccard_similarities, shingle_sets
from components.text.word_splitting import normalise_text

_COLUMNS = ["id", "ordinal", "number", "exchanges", "heldout"]
Pair = tuple[str, str]


def find_copies(
    documents: Path, scores: Path, passing: Collection[str], rule: DuplicateRule
) -> dict[str, KeptOriginal]:
    """Conversations that repeat a kept one -> that one.

    Args:
        documents: folder of all conversations.
        scores: folder of their duplicate scores.
        passing: ids of those that pass every other rule.
        rule: bounds from which a conversation repeats another.
    """
    rows = [row for row in read_shards(documents, _COLUMNS).to_pylist() if row["id"] in passing]
    # Longer ones first, since a conversation is dropped for one that is kept already.
    rows.sort(key=lambda r: (r["heldout"], -len(r["exchanges"]), r["ordinal"], r["number"]))
    near = _near_duplicates(documents, scores, rule.max_similarity)
    containers = _containers(rows)
    candidates = (
        Candidate(
            place,
            row["id"],
            near.groups[row["id"]],
            near.partners.get(near.groups[row["id"]], []),
            [(1.0, container) for container in containers[row["id"]]],
        )
        for place, row in enumerate(rows)
    )
    return choose_originals(candidates, rule.exact, rule.max_similarity, rule.max_contained)


class _NearDuplicates:
    """Groups of equal conversations, and the groups that each nearly equals."""

    def __init__(self) -> None:
        self.groups: dict[str, str] = {}
        self.partners: dict[str, list[tuple[float, str]]] = {}


def _near_duplicates(documents: Path, scores: Path, min_similarity: float) -> _NearDuplicates:
    near = _NearDuplicates()
    pairs: dict[Pair, float] = {}
    for row in read_shards(scores, ["id", "exact_group", "partners"]).to_pylist():
        group = near.groups[row["id"]] = row["exact_group"]
        for partner in row["partners"]:
            if partner["similarity"] >= min_similarity:
                pairs[group, partner["id"]] = partner["similarity"]
    for side in ("questions", "answers"):
        similarities = _side_similarities(documents, side, sorted(pairs))
        pairs = {pair: min(pairs[pair], similarities[pair]) for pair in pairs}
    for (group, partner), similarity in sorted(pairs.items()):
        near.partners.setdefault(group, []).append((similarity, partner))
    return near


def _side_similarities(documents: Path, side: str, pairs: list[Pair]) -> dict[Pair, float]:
    """Jaccard similarity of one side of pairs; short texts are equal or not alike at all."""
    if not pairs:
        return {}
    wanted = sorted({identifier for pair in pairs for identifier in pair})
    table = read_shards(documents, ["id", side])
    table = table.filter(pc.is_in(table["id"], value_set=pa.array(wanted))).sort_by("id")
    texts = dict(zip(wanted, map(normalise_text, table[side].to_pylist()), strict=True))
    places = {identifier: place for place, identifier in enumerate(wanted)}
    sets, bounds = shingle_sets(table[side], np.arange(len(wanted)))
    lefts, rights = (np.array([places[pair[end]] for pair in pairs]) for end in (0, 1))
    jaccard = jaccard_similarities(sets, bounds, lefts, rights)
    return {
        pair: 1.0 if texts[pair[0]] == texts[pair[1]] else round(float(similarity), 6)
        for pair, similarity in zip(pairs, jaccard, strict=True)
    }


def _containers(rows: list[dict[str, Any]]) -> Mapping[str, list[str]]:
    """Conversation -> longer ones that begin with all its turns, longest first.

    A training one that a held-out one goes on from stays: it does not hold the last answer.
    """
    whole: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        whole[row["exchanges"][-1]].append(row)
    containers: dict[str, list[str]] = defaultdict(list)
    for longer in rows:
        for digest in longer["exchanges"][:-1]:
            for row in whole.get(digest, ()):
                if row["heldout"] or not longer["heldout"]:
                    containers[row["id"]].append(longer["id"])
    return containers
