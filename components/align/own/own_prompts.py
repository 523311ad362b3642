"""Prompts of a team's own preferences, asked in rollouts beside those of the instructions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from components.core.store.shards import read_shard
from components.text.chat.ask_model import QuestionPrompt
from components.text.chat.judged_prompts import OWN_ANSWERS_FILE

OWN_PROMPT_KIND = "preference"
_COLUMNS = ["split", "page", "source", "subject", "question", "prompt", "answer", "judgement"]


def read_own_prompts(folder: Path, longest: int) -> list[QuestionPrompt]:
    """Training prompts of ``Preferences`` that a team judged answers to; none where there are none.

    The reference is the answer that was judged best.

    Args:
        folder: that of the preferences.
        longest: prompts of more tokens are left out.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / OWN_ANSWERS_FILE
    if not path.is_file():
        return []
    rows = [row for row in read_shard(path, _COLUMNS).to_pylist() if row["split"] == "train"]
    prompts: list[QuestionPrompt] = []
    for page, answers in groupby(rows, key=lambda row: row["page"]):
        best = max(answers, key=lambda row: row["judgement"])
        if len(best["prompt"]) <= longest:
            prompts.append(
                QuestionPrompt(
                    page=page,
                    kind=OWN_PROMPT_KIND,
                    subject=best["subject"],
                    question=best["question"],
                    reference=best["answer"],
                    token_ids=tuple(best["prompt"]),
                )
            )
    return prompts


def mix_prompts(
    asked: Sequence[QuestionPrompt], own: Sequence[QuestionPrompt], seed: int, limit: int
) -> list[QuestionPrompt]:
    """At most ``limit`` prompts of both in an order drawn by page; without own ones as they are.

    Args:
        asked: of the instructions.
        own: of a team's own preferences.
        seed: of the order.
        limit: most prompts.
    """
    if not own:
        return list(asked)
    mixed = sorted([*asked, *own], key=lambda p: _draw(seed, p.page, p.question, p.reference))
    return mixed[:limit]


def _draw(seed: int, *parts: str) -> bytes:
    return hashlib.sha256("\0".join((str(seed), *parts)).encode(errors="surrogatepass")).digest()
