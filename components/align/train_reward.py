"""Reward model training: a linear head on the frozen fine-tuned decoder's features of an answer.

    modelmill stage reward --input policy=PATH --input preferences=PATH \\
        --input tokenizer=PATH --output DIR

It learns from the policy's own answers what PPO asks it later: which of several answers to one
prompt is the better. The head is fitted to the judgements of answers less the mean of their prompt,
by ridge regression in closed form (Hoerl & Kennard 1970), on the features of
``models/answer_features.py``: a regression of all pairs' margins, where Bradley-Terry (Ouyang et
al. 2022, arXiv:2203.02155) sees only their sign. A few hundred prompts are too few to train the
decoder itself on: that took four times as long and agreed less (``docs/log.md``). Rewards are
scaled to mean 0 and within-prompt deviation 1 over the training answers.

``reward.json`` beside the weights holds the figure that says whether it may reward: the correlation
of reward and judgement within a prompt, pooled over held-out prompts, on the policy's own answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.align.attempt import AttemptFailed
from components.align.own.own_answer_groups import SplitGroups, balance_groups, read_own_groups
from components.align.preferences import ANSWERS_FILE, SPLITS, Split, prompt_key
from components.align.reward_agreement import (
    CORRELATION,
    OWN_ACCURACY,
    AnswerGroup,
    pairwise_accuracy,
    within_prompt_correlation,
    within_prompt_deviation,
    write_correlation,
)
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.stats.figures import Figure, exact_figure
from components.core.store.artifact import Checkpoint, Preferences, Tokenizer
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_preferences,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model, save_model, save_weights
from models.precision import Precision, compute_in

if TYPE_CHECKING:
    from torch import Tensor

    from models.decoder import Decoder
    from models.scalar_head import ScalarHead

log = get_logger(__name__)
HEAD_FILE = "head.safetensors"
LEAST_DEVIATION = 1e-6
"""Judgements, features or rewards closer than this are alike: float32 holds about seven digits."""


class RewardConfig(StageConfig):
    """Ridge regression of the head, and the fewest prompts it is fitted to."""

    ridge: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="L2 penalty for each answer on the weights of features scaled to deviation 1",
    )
    batch: int = Field(default=8, ge=1, description="prompts in a batch, each with all its answers")
    min_prompts: int = Field(
        default=8,
        ge=2,
        description="fewest prompts with answers judged apart, to learn from and to measure on; "
        "with fewer it rewards nothing",
    )
    own_weight: float = Field(
        default=1.0,
        gt=0,
        le=1e6,
        description="weight of your own preferences, all together, where that of all answers "
        "judged by the principles is 1",
    )
    precision: Precision = Field(default="auto", description="dtype of activations")


def train_reward(
    config: RewardConfig,
    policy: Checkpoint,
    preferences: Preferences,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Fit the head to the training prompts' answers, measure it on the held-out prompts'.

    Args:
        config: the regression and its limits.
        policy: the decoder, sealed as it is. Where the attempt cannot go on, the head says 0 and
            the correlation is 0 (stat ``diverged`` or ``too_few``).
        preferences: its ``answers.parquet`` is read, and ``answers.own.parquet`` where it is.
        tokenizer: tokenizer of the policy.
        work: folder of the checkpoint.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input cannot be read.
    """
    from models.answer_features import feature_width
    from models.scalar_head import ScalarHead

    digest = check_one_tokenizer(
        "reward",
        record_of_model(work.artifact_folder(policy), "policy"),
        record_of_preferences(work.artifact_folder(preferences)),
        record_of_tokenizer(work.artifact_folder(tokenizer)),
    )
    model = load_model(work.artifact_folder(policy))
    head = ScalarHead(feature_width(model.shape))
    fast_tokenizer = open_tokenizer(work.artifact_folder(tokenizer))
    folder = work.artifact_folder(preferences)
    train, heldout = (
        SplitGroups(
            read_answer_groups(folder, split, fast_tokenizer, model.shape.context),
            read_own_groups(folder, split),
        )
        for split in SPLITS
    )
    try:
        stats, correlation = _fit_and_measure(
            config, model, head, *balance_groups(train, heldout, config.own_weight), work
        )
        note = (
            f"correlation with the judge within a prompt {correlation.value:.2f} "
            f"[{correlation.low:.2f}, {correlation.high:.2f}]"
        )
    except AttemptFailed as error:
        log.warning("reward: %s; it rewards nothing", error)
        head = ScalarHead(feature_width(model.shape))
        stats, correlation = error.stats, exact_figure(CORRELATION, 0.0, n=0)
        note = f"rewards nothing: {error}"
    model.tokenizer = digest
    save_model(work.folder, model)
    save_weights(work.folder, head, HEAD_FILE)
    write_correlation(work.folder, correlation)
    return work.seal(Checkpoint, stats=stats, note=note)


def _fit_and_measure(
    config: RewardConfig,
    model: Decoder,
    head: ScalarHead,
    train: SplitGroups,
    heldout: SplitGroups,
    work: Workdir,
) -> tuple[dict[str, float], Figure]:
    """Fit ``head``: (stats, correlation).

    Raises:
        AttemptFailed: there are too few prompts, or a weight is no number.
    """
    train_groups, heldout_groups = train.all, heldout.all
    for groups, split in ((train_groups, "training"), (heldout_groups, "held-out")):
        if len(groups) < config.min_prompts:
            raise AttemptFailed(
                "too_few",
                f"{len(groups)} {split} prompts have answers judged apart, reward.min_prompts is "
                f"{config.min_prompts}",
            )
    work.progress.start_count(len(train_groups) + len(heldout_groups), "prompts")
    with compute_in(model, config.precision):
        features = extract_group_features(config, model, train_groups, work)
        fit_reward_head(head, train_groups, features, config.ridge)
        rewards = score_groups(head, extract_group_features(config, model, heldout_groups, work))
    if not all(bool(p.isfinite().all()) for p in head.parameters()):
        raise AttemptFailed("diverged", "a weight of the head is no number")
    correlation = within_prompt_correlation(heldout_groups, rewards)
    log.info(
        "reward: correlation with the judgement within a prompt %.3f [%.3f, %.3f], over %d "
        "held-out prompts of %d pages",
        *(correlation.value, correlation.low, correlation.high, len(heldout_groups), correlation.n),
    )
    stats = {
        CORRELATION: round(correlation.value, 4),
        f"{CORRELATION}_low": round(correlation.low, 4),
        f"{CORRELATION}_high": round(correlation.high, 4),
        "heldout_prompts": float(len(heldout_groups)),
        "prompts": float(len(train_groups)),
        "answers": float(sum(len(group.answers) for group in train_groups)),
    }
    return stats | _own_stats(heldout.own, rewards[len(heldout.judged) :]), correlation


def _own_stats(
    groups: Sequence[AnswerGroup], rewards: Sequence[Sequence[float]]
) -> dict[str, float]:
    """Accuracy on held-out pairs of a team's own; empty where there are none."""
    accuracy = pairwise_accuracy(groups, rewards)
    if accuracy is None:
        return {}
    log.info(
        "reward: right in %.3f [%.3f, %.3f] of the held-out pairs of yours, over %d prompts",
        *(accuracy.value, accuracy.low, accuracy.high, accuracy.n),
    )
    return {
        OWN_ACCURACY: round(accuracy.value, 4),
        f"{OWN_ACCURACY}_low": round(accuracy.low, 4),
        f"{OWN_ACCURACY}_high": round(accuracy.high, 4),
    }


def read_answer_groups(
    folder: Path, split: Split, tokenizer: ChatTokenizer, context: int
) -> list[AnswerGroup]:
    """Groups of a split with answers judged apart, those within the context.

    Args:
        folder: that of ``Preferences``.
        split: which of its prompts.
        tokenizer: makes the prompts.
        context: context of the model, in tokens.

    Raises:
        DataError: the file or a column is missing.
    """
    columns = ["split", "page", "question", "reference", "tokens", "judgement"]
    rows = read_shard(folder / ANSWERS_FILE, columns).to_pylist()
    of_split = [row for row in rows if row["split"] == split]
    groups = (_answer_group(tokenizer, list(of)) for _, of in groupby(of_split, prompt_key))
    return [
        group
        for group in groups
        if group.longest_sequence <= context
        and max(group.judgements) - min(group.judgements) > LEAST_DEVIATION
    ]


def _answer_group(tokenizer: ChatTokenizer, rows: Sequence[dict[str, Any]]) -> AnswerGroup:
    counts = Counter(tuple(row["tokens"]) for row in rows)
    judgements = {tuple(row["tokens"]): row["judgement"] for row in rows}
    return AnswerGroup(
        page=rows[0]["page"],
        prompt=tokenizer.encode_question(rows[0]["question"]),
        answers=[list(tokens) for tokens in counts],
        counts=list(counts.values()),
        judgements=[judgements[tokens] for tokens in counts],
    )


def extract_group_features(
    config: RewardConfig, model: Decoder, groups: Sequence[AnswerGroup], work: Workdir
) -> list[Tensor]:
    """Features [answers, f] of each group; groups of like length share a batch.

    Args:
        config: groups at once.
        model: the frozen decoder.
        groups: prompts with their answers.
        work: its progress counts prompts.
    """
    import torch

    from models.answer_features import answer_features
    from models.answer_sequences import join_answers

    order = sorted(range(len(groups)), key=lambda index: groups[index].longest_sequence)
    features: dict[int, Tensor] = {}
    for start in range(0, len(order), config.batch):
        batch_indices = order[start : start + config.batch]
        batch = [groups[index] for index in batch_indices]
        sequences = join_answers(
            [group.prompt for group in batch for _ in group.answers],
            [answer for group in batch for answer in group.answers],
        )
        together = answer_features(model, sequences)
        parts = torch.split(together, [len(group.answers) for group in batch])
        features |= dict(zip(batch_indices, parts, strict=True))
        work.progress.advance(len(batch))
    return [features[index] for index in range(len(groups))]


def fit_reward_head(
    head: ScalarHead, groups: Sequence[AnswerGroup], features: Sequence[Tensor], ridge: float
) -> None:
    """Fit ``head`` to judgements within prompts; rewards have mean 0, within-prompt deviation 1.

    A prompt's own level takes no part in the deviation: PPO clips rewards at a number of
    deviations, and only what differs within a prompt teaches it anything.

    Args:
        head: is filled.
        groups: the prompts.
        features: [answers, f] of each.
        ridge: penalty, times the number of answers, on weights of features scaled to deviation 1.
    """
    import torch

    every_af = torch.cat(list(features)).double()
    weights = [group.weight * count for group in groups for count in group.counts]
    counts_a = torch.tensor(weights, dtype=torch.float64)
    targets = [value for group in groups for value in group.centre_values(group.judgements)]
    centred_af = torch.cat(
        [
            _centre(group_features.double(), group)
            for group_features, group in zip(features, groups, strict=True)
        ]
    )
    scale_f = ((counts_a[:, None] * centred_af**2).sum(0) / counts_a.sum()).sqrt()
    scale_f = scale_f.clamp(min=LEAST_DEVIATION)
    x_af = centred_af / scale_f * counts_a.sqrt()[:, None]
    y_a = torch.tensor(targets, dtype=torch.float64) * counts_a.sqrt()
    penalty_ff = ridge * counts_a.sum() * torch.eye(x_af.shape[1], dtype=torch.float64)
    weights_f = torch.linalg.solve(x_af.T @ x_af + penalty_ff, x_af.T @ y_a) / scale_f
    rewards = [(group_features.double() @ weights_f).tolist() for group_features in features]
    deviation = max(within_prompt_deviation(groups, rewards), LEAST_DEVIATION)
    weights_f = weights_f / deviation
    with torch.no_grad():
        head.out.weight.copy_(weights_f[None])
        head.out.bias.fill_(-float((every_af @ weights_f).mean()))


def _centre(values_af: Tensor, group: AnswerGroup) -> Tensor:
    """Features less their mean over all sampled answers."""
    shares_a = values_af.new_tensor(group.counts) / sum(group.counts)
    return values_af - shares_a @ values_af


def score_groups(head: ScalarHead, features: Sequence[Tensor]) -> list[list[float]]:
    """Reward each group's answers."""
    import torch

    with torch.no_grad():
        return [head(group_features).tolist() for group_features in features]
