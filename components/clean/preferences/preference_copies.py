"""Copies among judged answers: equal rows, and held-out prompts that training nearly has too.

A row is a copy where its prompt, its answers and its judgements are equal; people who disagree on
one pair are none. Near prompts matter for the held-out ones alone, since what is measured on them
is to hold for prompts that nobody learnt from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from components.clean.duplicates.dedup_decision import DUPLICATES
from components.clean.duplicates.rule import DuplicateRule
from components.clean.selection_rule import KeptOriginal
from components.core.store.shards import read_shards, shard_paths
from components.text.word_splitting import normalise_text

_COLUMNS = ["id", "ordinal", "number", "heldout", "messages", "tools"]


def find_preference_copies(
    documents: Path, scores: Path, passing: Collection[str], rule: DuplicateRule
) -> dict[str, KeptOriginal]:
    """Rows that repeat a kept one -> that one.

    Args:
        documents: folder of all rows.
        scores: folder of the duplicate scores of their prompts.
        passing: ids of those that pass every other rule.
        rule: bounds from which a row repeats another.
    """
    rows = [row for row in _digest_rows(documents) if row["id"] in passing]
    rows.sort(key=lambda row: (row["ordinal"], row["number"]))
    copies: dict[str, KeptOriginal] = {}
    first: dict[bytes, str] = {}
    for row in rows:
        original = first.setdefault(row["content"], row["id"])
        if original != row["id"] and rule.exact:
            copies[row["id"]] = KeptOriginal(original, 1.0, DUPLICATES)
    kept = [row for row in rows if row["id"] not in copies]
    return copies | _find_trained_prompts(scores, kept, rule.max_similarity)


def _digest_rows(documents: Path) -> list[dict[str, Any]]:
    """Place, split and digest of the normalised content of each row, a shard at a time."""
    digested: list[dict[str, Any]] = []
    for path in shard_paths(documents):
        for row in pq.read_table(path, columns=_COLUMNS, partitioning=None).to_pylist():
            content = f"{row.pop('messages')}\n{row.pop('tools') or ''}"
            digest = hashlib.sha256(normalise_text(content).encode()).digest()
            digested.append({**row, "content": digest})
    return digested


def _find_trained_prompts(
    scores: Path, kept: list[dict[str, Any]], max_similarity: float
) -> dict[str, KeptOriginal]:
    """Held-out rows whose prompt nearly is one of training -> a row of that."""
    groups: dict[str, str] = {}
    partners: dict[str, list[tuple[float, str]]] = {}
    for row in read_shards(scores, ["id", "exact_group", "partners"]).to_pylist():
        groups[row["id"]] = row["exact_group"]
        partners.setdefault(row["exact_group"], []).extend(
            (partner["similarity"], partner["id"])
            for partner in row["partners"]
            if partner["similarity"] >= max_similarity
        )
    trained: dict[str, str] = {}
    for row in kept:
        if not row["heldout"]:
            trained.setdefault(groups[row["id"]], row["id"])
    copies: dict[str, KeptOriginal] = {}
    for row in kept:
        group = groups[row["id"]]
        near = [(-1.0, group), *((-s, other) for s, other in partners.get(group, ()))]
        known = sorted((s, trained[other]) for s, other in near if other in trained)
        if row["heldout"] and known:
            copies[row["id"]] = KeptOriginal(known[0][1], -known[0][0], DUPLICATES)
    return copies
