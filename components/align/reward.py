"""The reward model: the fine-tuned decoder with a scalar head, trained on preference pairs.

    modelmill stage reward --input policy=PATH --input preferences=PATH \\
        --input tokenizer=PATH --output DIR

Loss: Bradley-Terry, -log sigmoid(reward of the chosen - reward of the rejected answer), as in
Ouyang et al. 2022 (arXiv:2203.02155, equation 1). The reward is read at the answer's last token
and scaled to mean 0 and deviation 1 over the training answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from components.core.artifact import Checkpoint, Preferences, Tokenizer
from components.core.config import StageConfig
from components.core.errors import DataError
from components.core.figures import proportion_interval
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

    epochs: float = Field(default=1.0, gt=0, le=100, description="times each pair is seen")
    batch: int = Field(default=32, ge=1, description="pairs a step")
    optim: OptimConfig = Field(
        default=OptimConfig(muon_lr=0.004, adam_lr=0.001, embedding_lr=0.0005),
        description="optimisers and their rates",
    )
    schedule: ScheduleConfig = Field(
        default=ScheduleConfig(warmup=0.1, decay=0.7), description="course of the rates"
    )
    safety: SafetyConfig = Field(default=SafetyConfig(), description="saved states, bad steps")
    precision: Precision = Field(default="auto", description="dtype of activations")
    seed: int = Field(default=0, ge=0, lt=1 << 32, description="of the order of the pairs")


@dataclass(frozen=True)
class Pair:
    """A question's prompt with the better and the worse answer, as tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def length(self) -> int:
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


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
    learnt = read_pairs(folder, "train", opened, model.shape.context)
    unseen = read_pairs(folder, "heldout", opened, model.shape.context)
    if not learnt:
        raise DataError("preferences: there is no training pair to learn from")
    with computing(model, config.precision):
        trained = train(_job(config, model, head, learnt), work)
        calibrate(model, head, learnt[: config.batch * 8], config.batch)
        accuracy = _accuracy(model, head, unseen, config.batch)
    save_model(work.folder, model)
    save_weights(work.folder, head, HEAD_FILE)
    stats = {
        "pairs": float(len(learnt)),
        "steps": trained.steps,
        "loss": round(trained.loss, 4),
        "skipped": trained.skipped,
    }
    return work.seal(Checkpoint, stats={**stats, **accuracy})


def read_pairs(
    folder: Path,
    split: Literal["train", "heldout"],
    tokenizer: tokenizers.Tokenizer,
    context: int,
) -> list[Pair]:
    """All pairs of a split; those longer than the model's context are left out.

    Raises:
        DataError: the file or a column is missing.
    """
    rows = read_shard(folder / f"{split}.parquet", ["question", "chosen", "rejected"]).to_pylist()
    found = (
        Pair(
            prompt_ids(tokenizer, [("user", row["question"])]),
            answer_ids(tokenizer, row["chosen"]),
            answer_ids(tokenizer, row["rejected"]),
        )
        for row in rows
    )
    return [pair for pair in found if pair.length <= context]


def _job(
    config: RewardConfig, model: Decoder, head: ScalarHead, learnt: Sequence[Pair]
) -> Job[list[Pair]]:
    import torch

    from components.train.course import Course
    from components.train.loop import Job

    def batch(step: int) -> list[list[Pair]]:
        epoch, index = divmod(step, -(-len(learnt) // config.batch))
        return [[learnt[at] for at in _batches(config, learnt, epoch)[index]]]

    def loss(pairs: list[Pair], targets: float) -> Tensor:
        chosen_b, rejected_b = rewards_of_pairs(model, head, pairs)
        return -torch.nn.functional.logsigmoid(chosen_b - rejected_b).sum() / targets

    return Job(
        modules={"decoder": model, "head": head},
        batch=batch,
        weight=lambda pairs: len(pairs),
        loss=loss,
        course=Course.of(max(1, round(config.epochs * -(-len(learnt) // config.batch)))),
        optim=config.optim,
        schedule=config.schedule,
        safety=config.safety,
    )


def _batches(config: RewardConfig, learnt: Sequence[Pair], epoch: int) -> list[list[int]]:
    """An epoch's batches: pairs of like length together, in an order of its own."""
    import torch

    generator = torch.Generator().manual_seed((config.seed << 20) + epoch)
    order: list[int] = torch.randperm(len(learnt), generator=generator).tolist()
    order.sort(key=lambda index: learnt[index].length)  # equal lengths stay as drawn
    batches = [order[at : at + config.batch] for at in range(0, len(order), config.batch)]
    drawn: list[int] = torch.randperm(len(batches), generator=generator).tolist()
    return [batches[index] for index in drawn]


def rewards_of_pairs(
    model: Decoder, head: ScalarHead, pairs: Sequence[Pair]
) -> tuple[Tensor, Tensor]:
    """Rewards [b] of the chosen and of the rejected answers."""
    from models.heads import last_position
    from models.sequences import join

    both = join(
        [pair.prompt for pair in pairs] * 2,
        [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs],
    )
    rewards_b = last_position(head(model.hidden(both.ids_bt)), both.lengths_b)
    return rewards_b[: len(pairs)], rewards_b[len(pairs) :]


def _all_rewards(
    model: Decoder, head: ScalarHead, pairs: Sequence[Pair], batch: int
) -> tuple[Tensor, Tensor]:
    import torch

    with torch.no_grad():
        found = [
            rewards_of_pairs(model, head, pairs[start : start + batch])
            for start in range(0, len(pairs), batch)
        ]
    return torch.cat([chosen for chosen, _ in found]), torch.cat([worse for _, worse in found])


def calibrate(model: Decoder, head: ScalarHead, pairs: Sequence[Pair], batch: int) -> None:
    """Scale the head, so that rewards of these answers have mean 0 and deviation 1."""
    import torch

    both = torch.cat(_all_rewards(model, head, pairs, batch))
    deviation = both.std(correction=0).clamp(min=LEAST_DEVIATION)
    with torch.no_grad():
        head.out.bias.sub_(both.mean()).div_(deviation)
        head.out.weight.div_(deviation)


def _accuracy(
    model: Decoder, head: ScalarHead, pairs: Sequence[Pair], batch: int
) -> dict[str, float]:
    """Share of held-out pairs in the right order, with its interval; empty without a pair."""
    if not pairs:
        return {"heldout_pairs": 0.0}
    chosen, rejected = _all_rewards(model, head, pairs, batch)
    figure = proportion_interval(int((chosen > rejected).sum()), len(pairs))
    return {
        "heldout_pairs": float(len(pairs)),
        "heldout_accuracy": round(figure.value, 4),
        "heldout_accuracy_low": round(figure.low, 4),
        "heldout_accuracy_high": round(figure.high, 4),
    }
