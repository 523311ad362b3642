"""A team's own judged answers beside those of the principles, in the fit of the reward head.

Both sets have scales of their own: pairs are judged 1 and 0, the answers of a policy lie close
together. So the judgements of a team's own get the within-prompt deviation of the others', and
weights by which both sets count as they are told, however many answers each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

from components.align.preferences import Split
from components.align.reward_agreement import AnswerGroup, within_prompt_deviation
from components.core.store.shards import read_shard
from components.text.chat.judged_prompts import OWN_ANSWERS_FILE


@dataclass(frozen=True)
class SplitGroups:
    """Groups of answers judged by the principles, and of a team's own."""

    judged: list[AnswerGroup]
    own: list[AnswerGroup]

    @property
    def all(self) -> list[AnswerGroup]:
        return [*self.judged, *self.own]


def read_own_groups(folder: Path, split: Split) -> list[AnswerGroup]:
    """Groups of a team's own answers to a prompt; none where there are no such preferences.

    Args:
        folder: that of ``Preferences``.
        split: which of its prompts.

    Raises:
        DataError: the file is damaged.
    """
    path = folder / OWN_ANSWERS_FILE
    if not path.is_file():
        return []
    columns = ["split", "page", "source", "prompt", "tokens", "judgement"]
    rows = [row for row in read_shard(path, columns).to_pylist() if row["split"] == split]
    grouped = (list(of) for _, of in groupby(rows, lambda row: (row["page"], row["source"])))
    return [
        AnswerGroup(
            page=group[0]["page"],
            prompt=group[0]["prompt"],
            answers=[row["tokens"] for row in group],
            counts=[1] * len(group),
            judgements=[row["judgement"] for row in group],
        )
        for group in grouped
    ]


def balance_groups(
    train: SplitGroups, heldout: SplitGroups, own_weight: float
) -> tuple[SplitGroups, SplitGroups]:
    """Bring a team's own judgements to the scale of the others', and weigh them.

    Args:
        train: gives the scale.
        heldout: gets the same scale.
        own_weight: of all own answers of a split, where that of all others is 1.
    """
    if not train.own or not train.judged:
        return train, heldout
    theirs, ours = (
        within_prompt_deviation(groups, [group.judgements for group in groups])
        for groups in (train.judged, train.own)
    )
    return (
        _scale_own(train, theirs / ours, own_weight),
        _scale_own(heldout, theirs / ours, own_weight),
    )


def _scale_own(groups: SplitGroups, scale: float, own_weight: float) -> SplitGroups:
    judged, own = _count_answers(groups.judged), _count_answers(groups.own)
    weight = own_weight * judged / own if judged and own else own_weight
    scaled = [
        replace(group, judgements=[scale * value for value in group.judgements], weight=weight)
        for group in groups.own
    ]
    return SplitGroups(groups.judged, scaled)


def _count_answers(groups: Sequence[AnswerGroup]) -> int:
    return sum(sum(group.counts) for group in groups)
