"""Evaluation items from the user's JSONL files, as sequences of words to search for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.clean.contamination.text_units import split_units
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError

MAX_ANSWERS = 16
"""Distinct answers of one question that are searched for; bounds the size of the index."""


@dataclass(frozen=True)
class EvaluationItem:
    """One question with its answers, right and wrong."""

    name: str
    """File and row: ``gsm8k.jsonl:17``."""
    question: tuple[str, ...]
    answers: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class RejectedRow:
    """A row that holds no item, and why."""

    row: str
    reason: str


def read_evaluation_items(
    files: Sequence[HashedFile], question: str, answer: str
) -> tuple[list[EvaluationItem], list[RejectedRow]]:
    """Read the items of all files; rows with equal questions (a row an answer) are one item.

    Args:
        files: JSONL files, plain or gzip.
        question: Field of a row that holds the question.
        answer: Field that holds an answer, or a list of them, if there is one.

    Raises:
        DataError: a file changed since the run was planned, or holds no usable row.
    """
    names: dict[tuple[str, ...], str] = {}
    answers: dict[tuple[str, ...], dict[tuple[str, ...], None]] = {}
    refused: list[RejectedRow] = []
    for file in files:
        before = len(refused)
        rows = 0
        for name, row in file.read_json_lines("contamination.sets"):
            rows += 1
            reason = _rejection_reason(row, question)
            if reason:
                refused.append(RejectedRow(name, reason))
                continue
            question_words = tuple(split_units(row[question]))
            names.setdefault(question_words, name)
            answers_of = answers.setdefault(question_words, {})
            for answer_text in _answer_texts(row.get(answer)):
                answer_words = tuple(split_units(answer_text))
                if answer_words and len(answers_of) < MAX_ANSWERS:
                    answers_of[answer_words] = None
        if rows == len(refused) - before:
            why = f": {refused[-1].row} {refused[-1].reason}" if rows else ""
            raise DataError(f"contamination.sets: {file.name} holds no usable row{why}")
    return [EvaluationItem(names[asked], asked, tuple(answers[asked])) for asked in names], refused


def _answer_texts(value: Any) -> list[str]:
    """Answers of a row: a text, or the texts of a list (options); none where it is a number."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _rejection_reason(row: Any, question: str) -> str:
    """Reason for which a row holds no item; empty where it does."""
    if not isinstance(row, dict):
        return "is no JSON object"
    if not isinstance(row.get(question), str):
        return f"has no text in field {question!r}"
    return "" if split_units(row[question]) else "has an empty question"
