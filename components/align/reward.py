"""The reward model: the fine-tuned decoder with a scalar head, trained on preference pairs.

    modelmill stage reward --input policy=PATH --input preferences=PATH \\
        --input tokenizer=PATH --output DIR

Loss: Bradley-Terry, -log sigmoid(reward of the chosen - reward of the rejected answer), the mean
over all pairs of a question, whose answers are each read once, as in Ouyang et al. 2022
(arXiv:2203.02155, equation 1). The reward is read at the answer's last token and scaled to mean 0
and deviation 1 over the training answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.core.artifact import Checkpoint, Preferences, Tokenizer
from components.core.config import StageConfig
from components.core.errors import DataError
from components.core.figures import ratio_interval
from components.core.precision import Precision, computing
from components.core.shards import read_shard
from components.core.weights import load_model, save_model, save_weights
from components.core.workdir import Workdir
from components.text.chat import answer_ids, open_tokenizer, prompt_ids
from components.train.recipe import OptimConfig, SafetyConfig, ScheduleConfig

if TYPE_CHECKING:
    import tokenizers
    from torch import Tensor

    from components.train.loop import Job
    from models.decoder import Decoder
    from models.heads import ScalarHead

HEAD_FILE = "head.safetensors"
LEAST_DEVIATION = 1e-6


class RewardConfig(StageConfig):
    """How long and how fast the reward model learns."""

    epochs: float = Field(default=1.0, gt=0, le=100, description="times each question is seen")
    batch: int = Field(default=16, ge=1, description="questions a step, with all their pairs")
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.01, adam_lr=0.003, embedding_lr=0.002),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.1, decay=0.7), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the order of the questions")


@dataclass(frozen=True)
class Group:
    """A question's prompt, its answers as tokens, and its pairs of answers by their numbers."""

    prompt: list[int]
    answers: list[list[int]]
    pairs: list[tuple[int, int]]
    """(better, worse)."""
    kinds: list[str]
    """What each pair is made of."""

    @property
    def length(self) -> int:
        return len(self.prompt) + max(map(len, self.answers))


def train_reward(
    config: RewardConfig,
    policy: Checkpoint,
    preferences: Preferences,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Train on ``train.parquet``, measure the share of held-out pairs put in order.

    Raises:
        DataError: an input cannot be read, or there is no pair.
        MillError: the loss was not finite too often.
    """
    from components.train.loop import train
    from models.heads import ScalarHead

    model = load_model(work.path(policy))
    head = ScalarHead(model.shape.width)
    opened = open_tokenizer(work.path(tokenizer))
    folder = work.path(preferences)
    learnt = read_groups(folder, "train", opened, model.shape.context)
    unseen = read_groups(folder, "heldout", opened, model.shape.context)
    if not learnt:
        raise DataError("preferences: there is no training pair to learn from")
    with computing(model, config.precision):
        trained = train(_job(config, model, head, learnt), work)
        calibrate(model, head, learnt[: config.batch * 8], config.batch)
        accuracy = _accuracies(model, head, unseen, config.batch)
    save_model(work.folder, model)
    save_weights(work.folder, head, HEAD_FILE)
    stats = {
        "pairs": float(sum(len(group.pairs) for group in learnt)),
        "steps": trained.steps,
        "loss": round(trained.loss, 4),
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats={**stats, **accuracy})


def read_groups(
    folder: Path,
    split: Literal["train", "heldout"],
    tokenizer: tokenizers.Tokenizer,
    context: int,
) -> list[Group]:
    """All pairs of a split by question; a question too long for the model's context is left out.

    Raises:
        DataError: the file or a column is missing.
    """
    columns = ["question", "reference", "chosen", "rejected", "kind"]
    rows = read_shard(folder / f"{split}.parquet", columns).to_pylist()
    found = (
        _group(tokenizer, question, list(some))
        for (question, _), some in groupby(rows, lambda row: (row["question"], row["reference"]))
    )
    return [group for group in found if group.length <= context]


def _group(tokenizer: tokenizers.Tokenizer, question: str, rows: Sequence[dict[str, Any]]) -> Group:
    texts = dict.fromkeys(row[side] for row in rows for side in ("chosen", "rejected"))
    numbers = {text: number for number, text in enumerate(texts)}
    return Group(
        prompt=prompt_ids(tokenizer, [("user", question)]),
        answers=[answer_ids(tokenizer, text) for text in texts],
        pairs=[(numbers[row["chosen"]], numbers[row["rejected"]]) for row in rows],
        kinds=[row["kind"] for row in rows],
    )


def _job(
    config: RewardConfig, model: Decoder, head: ScalarHead, learnt: Sequence[Group]
) -> Job[list[Group]]:
    import torch

    from components.train.loop import Job

    def batch(step: int) -> list[list[Group]]:
        epoch, index = divmod(step, -(-len(learnt) // config.batch))
        return [[learnt[at] for at in _batches(config, learnt, epoch)[index]]]

    def loss(groups: list[Group], targets: float) -> Tensor:
        apart = differences(groups, rewards_of_groups(model, head, groups))
        losses = [-torch.nn.functional.logsigmoid(one_p).mean() for one_p in apart]
        return torch.stack(losses).sum() / targets

    return Job(
        modules={"decoder": model, "head": head},
        batch=batch,
        weight=lambda groups: len(groups),
        loss=loss,
        steps=max(1, round(config.epochs * -(-len(learnt) // config.batch))),
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
    )


def _batches(config: RewardConfig, learnt: Sequence[Group], epoch: int) -> list[list[int]]:
    """An epoch's batches: questions of like length together, in an order of its own."""
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


def differences(groups: Sequence[Group], rewards: Sequence[Tensor]) -> list[Tensor]:
    """The better answer's reward less the worse one's, for the pairs of each group."""
    import torch

    numbers = (torch.tensor(group.pairs) for group in groups)
    return [
        one_b[pairs_p2[:, 0]] - one_b[pairs_p2[:, 1]]
        for one_b, pairs_p2 in zip(rewards, numbers, strict=True)
    ]


def _all_rewards(
    model: Decoder, head: ScalarHead, groups: Sequence[Group], batch: int
) -> list[Tensor]:
    import torch

    with torch.no_grad():
        return [
            rewards
            for start in range(0, len(groups), batch)
            for rewards in rewards_of_groups(model, head, groups[start : start + batch])
        ]


def calibrate(model: Decoder, head: ScalarHead, groups: Sequence[Group], batch: int) -> None:
    """Scale the head, so that rewards of these answers have mean 0 and deviation 1."""
    import torch

    every = torch.cat(_all_rewards(model, head, groups, batch))
    deviation = every.std(correction=0).clamp(min=LEAST_DEVIATION)
    with torch.no_grad():
        head.out.bias.sub_(every.mean()).div_(deviation)
        head.out.weight.div_(deviation)


def _accuracies(
    model: Decoder, head: ScalarHead, groups: Sequence[Group], batch: int
) -> dict[str, float]:
    """Share of held-out pairs in the right order, of all and of each kind.

    The interval resamples questions, whose pairs share answers. PPO leans on the kind ``own``: the
    other two are easier.
    """
    pairs = sum(len(group.pairs) for group in groups)
    if not pairs:
        return {"heldout_pairs": 0.0}
    apart = differences(groups, _all_rewards(model, head, groups, batch))
    right = [(one_p > 0).tolist() for one_p in apart]
    figure = ratio_interval([float(sum(one)) for one in right], [float(len(one)) for one in right])
    stats = {
        "heldout_pairs": float(pairs),
        "heldout_accuracy": round(figure.value, 4),
        "heldout_accuracy_low": round(figure.low, 4),
        "heldout_accuracy_high": round(figure.high, 4),
    }
    judged = [
        (kind, ordered)
        for group, one in zip(groups, right, strict=True)
        for kind, ordered in zip(group.kinds, one, strict=True)
    ]
    for kind in sorted({kind for kind, _ in judged}):
        of_kind = [ordered for known, ordered in judged if known == kind]
        stats[f"heldout_accuracy_{kind}"] = round(sum(of_kind) / len(of_kind), 4)
    return stats
