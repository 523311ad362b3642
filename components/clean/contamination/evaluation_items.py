"""Evaluation items from the user's JSONL files, as lists of words to look for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.core.config.hashed_file import NamedFile
from components.core.errors import DataError
from components.text.word_splitting import words

MOST_ANSWERS = 16
"""Different answers of one question that are looked for."""


@dataclass(frozen=True)
class Item:
    """One question with its answers, right and wrong."""

    name: str
    """File and row: ``gsm8k.jsonl:17``."""
    question: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Refused:
    """A row that holds no item, and why."""

    row: str
    reason: str


def read_items(
    files: Sequence[NamedFile], question: str, answer: str
) -> tuple[list[Item], list[Refused]]:
    """Items of all files; rows with equal questions (a row an answer) are one item.

    Raises:
        DataError: a file changed since the run was planned, or holds no usable row.
    """
    names: dict[tuple[str, ...], str] = {}
    answers: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    refused: list[Refused] = []
    for file in files:
        before = len(refused)
        rows = 0
        for name, row in file.rows("contamination.sets"):
            rows += 1
            reason = _reason(row, question)
            if reason:
                refused.append(Refused(name, reason))
                continue
            asked = tuple(words(row[question]))
            names.setdefault(asked, name)
            given = row.get(answer)
            found = tuple(words(given)) if isinstance(given, str) else ()
            known = answers.setdefault(asked, {})
            if found and len(known) < MOST_ANSWERS:
                known[found] = None
        if rows == len(refused) - before:
            why = f": {refused[-1].row} {refused[-1].reason}" if rows else ""
            raise DataError(f"contamination.sets: {file.name} holds no usable row{why}")
    return [Item(names[asked], asked, tuple(answers[asked])) for asked in names], refused


def _reason(row: Any, question: str) -> str:
    """Why a row holds no item; empty where it does."""
    if not isinstance(row, dict):
        return "is no JSON object"
    if not isinstance(row.get(question), str):
        return f"has no text in field {question!r}"
    return "" if words(row[question]) else "has an empty question"
