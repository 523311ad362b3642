"""Held-out pairs of a team's own: how much likelier the chosen answer is to a model.

The figure of a pair is the mean log-probability of a token of the chosen answer less that of the
rejected one, in nats: the length-normalised margin of SimPO (Meng et al. 2024, arXiv:2405.14734).
Of two models that which prefers what people chose has the greater one, and neither was trained on
these prompts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from components.core.stats.report_items import ReportItems, item_keys
from components.core.store.shards import read_shard
from components.evaluate.sequence_likelihood import (
    batch_by_length,
    continuation_span,
    span_log_likelihoods,
)
from components.text.chat.judged_prompts import OWN_ANSWERS_FILE

if TYPE_CHECKING:
    from models.decoder import Decoder

BATCH_TOKENS = 8192
"""Tokens of a padded batch: as many as the four-choice task takes."""
MARGIN = "preference"
"""Name of the figure."""
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class OwnPair:
    """Two answers to a held-out prompt, of which people judged the chosen one better."""

    page: str
    """Digest of the prompt."""
    prompt: Tokens
    chosen: Tokens
    rejected: Tokens


def read_own_pairs(folder: Path | None, context: int, limit: int | None) -> list[OwnPair]:
    """Held-out pairs of ``Preferences``, sorted by prompt; none where no such are there.

    Args:
        folder: that of the preferences; None where there are none.
        context: longer answers with their prompts are left out.
        limit: most prompts; None takes all.

    Raises:
        DataError: the file is damaged.
    """
    if folder is None or not (folder / OWN_ANSWERS_FILE).is_file():
        return []
    columns = ["split", "page", "source", "prompt", "tokens", "judgement"]
    rows = [
        row
        for row in read_shard(folder / OWN_ANSWERS_FILE, columns).to_pylist()
        if row["split"] == "heldout" and len(row["prompt"]) + len(row["tokens"]) <= context
    ]
    pages = set(sorted({row["page"] for row in rows})[:limit])
    pairs: list[OwnPair] = []
    for (page, _), answers in groupby(rows, key=lambda row: (row["page"], row["source"])):
        if page in pages:
            ranked = sorted(answers, key=lambda row: -row["judgement"])
            pairs += [
                OwnPair(page, tuple(good["prompt"]), tuple(good["tokens"]), tuple(bad["tokens"]))
                for good, bad in combinations(ranked, 2)
                if good["judgement"] > bad["judgement"]
            ]
    return pairs


def own_pair_items(model: Decoder, pairs: Sequence[OwnPair]) -> ReportItems:
    """Items of one model: the margin of each pair, in nats a token."""
    answers = sorted({(p.prompt, said) for p in pairs for said in (p.chosen, p.rejected)})
    spans = [continuation_span(*answer) for answer in answers]
    nats: dict[tuple[Tokens, Tokens], float] = {}
    for rows in batch_by_length([len(span.ids) for span in spans], BATCH_TOKENS):
        for row, total in zip(rows, span_log_likelihoods(model, spans, rows), strict=True):
            nats[answers[row]] = total / len(answers[row][1])
    margins = [nats[p.prompt, p.chosen] - nats[p.prompt, p.rejected] for p in pairs]
    return ReportItems(
        item_keys([[p.prompt, p.chosen, p.rejected] for p in pairs]),
        [pair.page for pair in pairs],
        np.ones(len(pairs)),
        {MARGIN: np.array(margins, dtype=np.float64)},
    )
