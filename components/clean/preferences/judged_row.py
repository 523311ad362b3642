"""One row of judged answers: the turns of its prompt, then each answer with its judgement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from components.clean.conversations.chat_rows.chat_messages import Message, check_characters
from components.clean.conversations.chat_rows.conversation import (
    ADDRESS_DIGITS,
    Conversation,
    dump_json,
)
from components.clean.conversations.chat_rows.message_texts import document_text
from components.clean.conversations.chat_rows.refused_row import RefusedRow
from components.clean.conversations.chat_rows.tagged_calls import open_tagged_calls
from components.clean.conversations.chat_rows.turn_order import order_turns
from components.clean.preferences.preference_formats import JudgedTurns, read_judged_turns
from components.core.store.artifact import digest_value
from components.text.word_splitting import normalise_text

_LARGEST_RATING = 1e9
"""Ratings beyond it are no scale of people: their squares and differences lose digits."""


@dataclass(frozen=True)
class JudgedRow(Conversation):
    """Prompt and answers; ``messages`` holds both, and each answer its judgement."""

    prompt: list[Message]

    @property
    def drawn_by(self) -> str:
        """Digest of the prompt without the system's text: all its answers share a split."""
        return digest_value(normalise_text(self.compared_text))[:ADDRESS_DIGITS]

    @property
    def compared_text(self) -> str:
        """Text of the prompt, without the system's."""
        return document_text([turn for turn in self.prompt if turn["role"] != "system"])

    def exchange_digests(self) -> list[bytes]:
        """None: a pair about a longer conversation says nothing of one about its beginning."""
        return []


def read_judged_row(row: Any, max_characters: int, ratings: Sequence[str]) -> JudgedRow:
    """Read a decoded row of any format.

    Args:
        row: the row's value.
        max_characters: longest text of the prompt with all answers.
        ratings: fields whose mean is the rating; none takes those that are usual.

    Raises:
        RefusedRow: nothing can be learnt from it; the message is the reason.
    """
    try:
        judged = read_judged_turns(row, ratings)
        check_characters(dump_json([judged.prompt, judged.answers, judged.tools]))
    except RecursionError:
        raise RefusedRow("is nested too deeply") from None
    prompt = _order_prompt(judged)
    _check_judgements(judged)
    answers = [{**a, **j} for a, j in zip(judged.answers, judged.judgements, strict=True)]
    whole = JudgedRow([*prompt, *answers], judged.tools, 0, prompt)
    if len(whole.text) > max_characters:
        raise RefusedRow(
            f"holds {len(whole.text)} characters of text, more than preferences.max_characters "
            f"({max_characters})"
        )
    return whole


def _order_prompt(judged: JudgedTurns) -> list[Message]:
    """Turns of the prompt in order, the same for every answer.

    Raises:
        RefusedRow: they are in no order that an answer may follow.
    """
    if judged.prompt and judged.prompt[-1]["role"] not in ("user", "tool"):
        raise RefusedRow(f"its prompt ends with the {judged.prompt[-1]['role']}'s turn")
    prompt: list[Message] = []
    for answer in judged.answers:
        prompt = order_turns([*open_tagged_calls(judged.prompt), answer])[0][:-1]
    return prompt


def _check_judgements(judged: JudgedTurns) -> None:
    texts = [(str(a["content"]).strip(), a.get("tool_calls")) for a in judged.answers]
    if len(texts) > 1 and texts[0] == texts[1]:
        raise RefusedRow("the answers of its pair are equal")
    ratings = [judgement.get("rating", 0.0) for judgement in judged.judgements]
    if any(abs(rating) > _LARGEST_RATING for rating in ratings):
        raise RefusedRow(f"its rating is beyond {_LARGEST_RATING:g}")
