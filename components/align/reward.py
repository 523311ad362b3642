"""The reward model: the fine-tuned decoder with a scalar head, trained on judged answers.

    modelmill stage reward --input policy=PATH --input preferences=PATH \\
        --input tokenizer=PATH --output DIR

It learns from the policy's own answers what PPO asks it later: which of several answers to one
prompt is the better. Loss: the squared error of an answer's reward less the prompt's mean, against
the judgement less the prompt's mean, in deviations; that is a regression of all pairs' margins,
whatever their size, where Bradley-Terry (Ouyang et al. 2022, arXiv:2203.02155) sees only their
sign. The reward is read at the answer's last token and scaled to mean 0 and within-prompt deviation
1 over the training answers.

``reward.json`` beside the weights holds the figure that says whether it may reward: the correlation
of reward and judgement within a prompt, pooled over held-out prompts, on the policy's own answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.align.agreement import (
    CORRELATION,
    Group,
    within_deviation,
    within_prompt_correlation,
    write_correlation,
)
from components.align.attempt import AttemptFailed
from components.align.preferences import ANSWERS_FILE, Split, same_prompt
from components.core.artifact import Checkpoint, Preferences, Tokenizer
from components.core.config import StageConfig
from components.core.errors import TrainingDiverged
from components.core.figures import Figure, exact
from components.core.log import get_logger
from components.core.precision import Precision, computing
from components.core.shards import read_shard
from components.core.weights import load_model, save_model, save_weights
from components.core.workdir import Workdir
from components.text.chat import open_tokenizer, prompt_ids
from components.train.recipe import OptimConfig, SafetyConfig, ScheduleConfig

if TYPE_CHECKING:
    import tokenizers
    from torch import Tensor

    from components.train.loop import Job
    from models.decoder import Decoder
    from models.heads import ScalarHead

log = get_logger(__name__)
HEAD_FILE = "head.safetensors"
LEAST_DEVIATION = 1e-6
"""Judgements, or rewards, closer than this are alike: float32 holds about seven digits."""


class RewardConfig(StageConfig):
    """How long and how fast the reward model learns."""

    epochs: float = Field(default=1.0, gt=0, le=100, description="times each prompt is seen")
    batch: int = Field(default=4, ge=1, description="prompts a step, with all their answers")
    level: float = Field(
        default=0.1,
        ge=0,
        le=10,
        description="weight of the error in a prompt's mean beside that within the prompt",
    )
    min_prompts: int = Field(
        default=8,
        ge=2,
        description="fewest prompts with answers judged apart, to learn from and to measure on; "
        "with fewer the policy is kept as it is and rewards nothing",
    )
    optim: OptimConfig = Field(
        default=OptimConfig(kind="adamw", adam_lr=0.001, embedding_lr=0.001, beta2=0.98),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.1, decay=0.7), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the order of the prompts")


def train_reward(
    config: RewardConfig,
    policy: Checkpoint,
    preferences: Preferences,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Train on the training prompts' answers, measure on the held-out prompts'.

    Args:
        config: how it learns.
        policy: what it starts from; sealed as it is, with a head that says 0 and a correlation of
            0, where the attempt cannot go on (stat ``diverged`` or ``too_few``).
        preferences: its ``answers.parquet`` is read.
        tokenizer: the policy's.
        work: where it is written.

    Raises:
        DataError: an input cannot be read.
    """
    from models.heads import ScalarHead

    model = load_model(work.path(policy))
    head = ScalarHead(model.shape.width)
    opened = open_tokenizer(work.path(tokenizer))
    folder = work.path(preferences)
    learnt = read_groups(folder, "train", opened, model.shape.context)
    unseen = read_groups(folder, "heldout", opened, model.shape.context)
    try:
        stats, known = _attempt(config, model, head, learnt, unseen, work)
        note = (
            f"correlation with the judge within a prompt {known.value:.2f} "
            f"[{known.low:.2f}, {known.high:.2f}]"
        )
    except AttemptFailed as error:
        log.warning("reward: %s; it is the policy it was given, and rewards nothing", error)
        model, head = load_model(work.path(policy)), ScalarHead(model.shape.width)
        stats, known = error.stats, exact(CORRELATION, 0.0, n=0)
        note = f"the policy as it was: {error}"
    save_model(work.folder, model)
    save_weights(work.folder, head, HEAD_FILE)
    write_correlation(work.folder, known)
    return work.seal(Checkpoint, stats=stats, note=note)


def _attempt(
    config: RewardConfig,
    model: Decoder,
    head: ScalarHead,
    learnt: Sequence[Group],
    unseen: Sequence[Group],
    work: Workdir,
) -> tuple[dict[str, float], Figure]:
    """(stats, correlation) of a training to the end.

    Raises:
        AttemptFailed: there are too few prompts, or the training broke.
    """
    from components.train.loop import train

    for groups, what in ((learnt, "training"), (unseen, "held-out")):
        if len(groups) < config.min_prompts:
            raise AttemptFailed(
                "too_few",
                f"{len(groups)} {what} prompts have answers judged apart, reward.min_prompts is "
                f"{config.min_prompts}",
            )
    with computing(model, config.precision):
        try:
            trained = train(_job(config, model, head, learnt), work)
        except TrainingDiverged as error:
            raise AttemptFailed("diverged", str(error)) from error
        calibrate(model, head, learnt, config.batch)
        rewards = _all_rewards(model, head, unseen, config.batch)
    if not all(math.isfinite(reward) for group in rewards for reward in group):
        raise AttemptFailed("diverged", "a reward is no number")
    known = within_prompt_correlation(unseen, rewards)
    log.info(
        "reward: correlation with the judgement within a prompt %.3f [%.3f, %.3f], over %d "
        "held-out prompts of %d pages",
        *(known.value, known.low, known.high, len(unseen), known.n),
    )
    stats = {
        CORRELATION: round(known.value, 4),
        f"{CORRELATION}_low": round(known.low, 4),
        f"{CORRELATION}_high": round(known.high, 4),
        "heldout_prompts": float(len(unseen)),
        "prompts": float(len(learnt)),
        "answers": float(sum(len(group.answers) for group in learnt)),
        "steps": float(trained.steps),
        "loss": round(trained.loss, 4),
        "skipped": float(trained.skipped),
    }
    return stats, known


def read_groups(
    folder: Path, split: Split, tokenizer: tokenizers.Tokenizer, context: int
) -> list[Group]:
    """The prompts of a split that teach: with answers judged apart, and within the context.

    Args:
        folder: that of ``Preferences``.
        split: which of its prompts.
        tokenizer: makes the prompts.
        context: of the model, in tokens.

    Raises:
        DataError: the file or a column is missing.
    """
    columns = ["split", "page", "question", "reference", "tokens", "judgement"]
    rows = read_shard(folder / ANSWERS_FILE, columns).to_pylist()
    of_split = [row for row in rows if row["split"] == split]
    groups = (_group(tokenizer, list(some)) for _, some in groupby(of_split, same_prompt))
    return [
        group
        for group in groups
        if group.length <= context
        and max(group.judgements) - min(group.judgements) > LEAST_DEVIATION
    ]


def _group(tokenizer: tokenizers.Tokenizer, rows: Sequence[dict[str, Any]]) -> Group:
    counts = Counter(tuple(row["tokens"]) for row in rows)
    judgements = {tuple(row["tokens"]): row["judgement"] for row in rows}
    return Group(
        page=rows[0]["page"],
        prompt=prompt_ids(tokenizer, [("user", rows[0]["question"])]),
        answers=[list(tokens) for tokens in counts],
        counts=list(counts.values()),
        judgements=[judgements[tokens] for tokens in counts],
    )


def _job(
    config: RewardConfig, model: Decoder, head: ScalarHead, learnt: Sequence[Group]
) -> Job[list[Group]]:
    import torch

    from components.train.course import Course
    from components.train.loop import Job

    deviation = within_deviation(learnt, [group.judgements for group in learnt])
    every = [judgement for group in learnt for judgement in group.judgements]
    mean = math.fsum(every) / len(every)

    def batch(step: int) -> list[list[Group]]:
        epoch, index = divmod(step, -(-len(learnt) // config.batch))
        return [[learnt[at] for at in _batches(config, learnt, epoch)[index]]]

    def loss(groups: list[Group], targets: float) -> Tensor:
        rewards = rewards_of_groups(model, head, groups)
        losses = [
            group_loss(config, group, reward, mean, deviation)
            for group, reward in zip(groups, rewards, strict=True)
        ]
        return torch.stack(losses).sum() / targets

    return Job(
        modules={"decoder": model, "head": head},
        batch=batch,
        weight=lambda groups: len(groups),
        loss=loss,
        course=Course.of(max(1, round(config.epochs * -(-len(learnt) // config.batch)))),
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
    )


def group_loss(
    config: RewardConfig, group: Group, rewards_b: Tensor, mean: float, deviation: float
) -> Tensor:
    """Squared error within the prompt, and ``level`` times that of the prompt's mean.

    Args:
        config: the weight of the level.
        group: the prompt.
        rewards_b: of its answers.
        mean: of all judgements.
        deviation: of all judgements within their prompts.
    """
    import torch

    shares_b = torch.tensor(group.counts) / sum(group.counts)
    wanted_b = (torch.tensor(group.judgements) - mean) / deviation
    errors_b = rewards_b - wanted_b.float()
    level = (shares_b * errors_b).sum()
    within: Tensor = (shares_b * (errors_b - level) ** 2).sum()
    return within + config.level * level**2


def _batches(config: RewardConfig, learnt: Sequence[Group], epoch: int) -> list[list[int]]:
    """An epoch's batches: prompts of like length together, in an order of its own."""
    import torch

    generator = torch.Generator().manual_seed((config.seed << 20) + epoch)
    order: list[int] = torch.randperm(len(learnt), generator=generator).tolist()
    order.sort(key=lambda index: learnt[index].length)  # equal lengths stay as drawn
    batches = [order[at : at + config.batch] for at in range(0, len(order), config.batch)]
    drawn: list[int] = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in drawn]


def rewards_of_groups(model: Decoder, head: ScalarHead, groups: Sequence[Group]) -> list[Tensor]:
    """Rewards of each group's answers."""
    import torch

    from models.heads import last_position
    from models.sequences import join

    together = join(
        [group.prompt for group in groups for _ in group.answers],
        [answer for group in groups for answer in group.answers],
    )
    rewards_b = last_position(head(model.hidden(together.ids_bt)), together.lengths_b)
    return list(torch.split(rewards_b, [len(group.answers) for group in groups]))


def calibrate(model: Decoder, head: ScalarHead, groups: Sequence[Group], batch: int) -> None:
    """Scale the head, so that rewards of these answers have mean 0 and, in a prompt, deviation 1.

    A prompt's own level must not take part in the deviation: PPO clips rewards at a number of
    deviations, and only what differs within a prompt teaches it anything.
    """
    import torch

    rewards = _all_rewards(model, head, groups, batch)
    every = [reward for group in rewards for reward in group]
    mean = math.fsum(every) / len(every)
    deviation = max(within_deviation(groups, rewards), LEAST_DEVIATION)
    with torch.no_grad():
        head.out.bias.sub_(mean).div_(deviation)
        head.out.weight.div_(deviation)


def _all_rewards(
    model: Decoder, head: ScalarHead, groups: Sequence[Group], batch: int
) -> list[list[float]]:
    import torch

    with torch.no_grad():
        return [
            rewards.tolist()
            for start in range(0, len(groups), batch)
            for rewards in rewards_of_groups(model, head, groups[start : start + batch])
        ]
