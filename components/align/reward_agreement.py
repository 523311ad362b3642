"""Agreement of a reward model with the judge: within prompts, over the policy's own answers.

What a reward model says of two prompts teaches a policy nothing; what it says of two answers to one
does. So both the scale of rewards and the figure that decides whether they are used leave the
prompts' own levels out.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.stats.figures import Figure, correlation_interval, ratio_interval
from components.core.store.artifact import canonical_json

REWARD_FILE = "reward.json"
CORRELATION = "within_prompt_correlation"
OWN_ACCURACY = "own_accuracy"
"""Accuracy on held-out pairs of a team's own."""


@dataclass(frozen=True)
class AnswerGroup:
    """Distinct answers to one prompt, at least two of them judged apart."""

    page: str
    prompt: list[int]
    answers: list[list[int]]
    """Tokens as sampled."""
    counts: list[int]
    """Times that each answer was sampled."""
    judgements: list[float]
    weight: float = 1.0
    """Weight of each answer in fits and figures."""

    @property
    def longest_sequence(self) -> int:
        """Tokens of the prompt with its longest answer."""
        return len(self.prompt) + max(map(len, self.answers))

    def centre_values(self, values: Sequence[float]) -> list[float]:
        """Values of the answers less their mean over all sampled answers."""
        total = sum(self.counts)
        mean = math.fsum(v * n for v, n in zip(values, self.counts, strict=True)) / total
        return [value - mean for value in values]


def within_prompt_deviation(
    groups: Sequence[AnswerGroup], values: Sequence[Sequence[float]]
) -> float:
    """Standard deviation of values around their prompts' means, over all sampled answers."""
    squares = math.fsum(
        group.weight * count * value**2
        for group, group_values in zip(groups, values, strict=True)
        for count, value in zip(group.counts, group.centre_values(group_values), strict=True)
    )
    return math.sqrt(squares / sum(group.weight * sum(group.counts) for group in groups))


def within_prompt_correlation(
    groups: Sequence[AnswerGroup], rewards: Sequence[Sequence[float]]
) -> Figure:
    """Pearson's r of reward and judgement, both less their prompt's mean, over all answers.

    Pooled, so a prompt counts as much as its answers differ: where they hardly do, r of that
    prompt alone is noise. The interval resamples pages, whose prompts resemble each other.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
    for group, group_rewards in zip(groups, rewards, strict=True):
        pairs = zip(
            group.counts,
            group.centre_values(group_rewards),
            group.centre_values(group.judgements),
            strict=True,
        )
        for count, reward, judgement in pairs:
            of_page, weight = sums[group.page], group.weight * count
            of_page[0] += weight * reward * judgement
            of_page[1] += weight * reward * reward
            of_page[2] += weight * judgement * judgement
    products, reward_squares, judgement_squares = zip(*sums.values(), strict=True)
    return correlation_interval(products, reward_squares, judgement_squares, name=CORRELATION)


def pairwise_accuracy(
    groups: Sequence[AnswerGroup], rewards: Sequence[Sequence[float]]
) -> Figure | None:
    """Share of pairs of answers to a prompt that rewards order as judgements do; ties count half.

    The interval resamples pages. None where no two answers are judged apart.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for group, group_rewards in zip(groups, rewards, strict=True):
        judged = sorted(zip(group.judgements, group_rewards, strict=True))
        for (low, worse), (high, better) in combinations(judged, 2):
            if high > low:
                of_page = sums[group.page]
                of_page[0] += 1.0 if better > worse else 0.5 if better == worse else 0.0
                of_page[1] += 1.0
    if not sums:
        return None
    right, pairs = zip(*sums.values(), strict=True)
    return ratio_interval(right, pairs, name=OWN_ACCURACY)


def write_correlation(folder: Path, correlation: Figure) -> None:
    """Write ``reward.json``, which PPO reads to decide whether the reward model rewards."""
    write_atomically(folder / REWARD_FILE, canonical_json({CORRELATION: correlation.model_dump()}))


def read_correlation(folder: Path) -> Figure:
    """The correlation that ``reward.json`` holds.

    Raises:
        DataError: there is none, or it is damaged.
    """
    try:
        return Figure(**json.loads((folder / REWARD_FILE).read_bytes())[CORRELATION])
    except (OSError, ValueError, KeyError, TypeError, DataError) as error:
        raise DataError(
            f"{folder.name}: {REWARD_FILE} does not say how well the reward model agrees with the "
            f"principles ({error}): train it again with modelmill stage reward"
        ) from error
