"""The reward model: a linear head on what the fine-tuned decoder, frozen, sees in an answer.

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
from components.align.preferences import ANSWERS_FILE, Split, same_prompt
from components.align.reward_agreement import (
    CORRELATION,
    Group,
    within_deviation,
    within_prompt_correlation,
    write_correlation,
)
from components.core.config.stage_config import StageConfig
from components.core.log import get_logger
from components.core.stats.figures import Figure, exact
from components.core.store.artifact import Checkpoint, Preferences, Tokenizer
from components.core.store.shards import read_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_template import open_tokenizer, prompt_ids
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_preferences,
    record_of_tokenizer,
)
from components.text.decoder_files import load_model, save_model, save_weights
from models.precision import Precision, computing

if TYPE_CHECKING:
    import tokenizers
    from torch import Tensor

    from models.decoder import Decoder
    from models.scalar_head import ScalarHead

log = get_logger(__name__)
HEAD_FILE = "head.safetensors"
LEAST_DEVIATION = 1e-6
"""Judgements, features or rewards closer than this are alike: float32 holds about seven digits."""


class RewardConfig(StageConfig):
    """How strongly the head is held, and how little is too little."""

    ridge: float = Field(
        default=1.0, gt=0, le=1e6, description="penalty on the weights, an answer; features scaled"
    )
    batch: int = Field(default=8, ge=1, description="prompts read at once, with all their answers")
    min_prompts: int = Field(
        default=8,
        ge=2,
        description="fewest prompts with answers judged apart, to learn from and to measure on; "
        "with fewer it rewards nothing",
    )
    precision: Precision = Field(default="auto", description="dtype of activations")


def train_reward(
    config: RewardConfig,
    policy: Checkpoint,
    preferences: Preferences,
    tokenizer: Tokenizer,
    work: Workdir,
) -> Checkpoint:
    """Fit the head to the training prompts' answers, measure on the held-out prompts'.

    Args:
        config: how it learns.
        policy: the decoder, sealed as it is. Where the attempt cannot go on, the head says 0 and
            the correlation is 0 (stat ``diverged`` or ``too_few``).
        preferences: its ``answers.parquet`` is read.
        tokenizer: the policy's.
        work: where it is written.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input cannot be read.
    """
    from models.answer_features import feature_width
    from models.scalar_head import ScalarHead

    digest = check_one_tokenizer(
        "reward",
        record_of_model(work.path(policy), "policy"),
        record_of_preferences(work.path(preferences)),
        record_of_tokenizer(work.path(tokenizer)),
    )
    model = load_model(work.path(policy))
    head = ScalarHead(feature_width(model.shape))
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
        log.warning("reward: %s; it rewards nothing", error)
        head = ScalarHead(feature_width(model.shape))
        stats, known = error.stats, exact(CORRELATION, 0.0, n=0)
        note = f"rewards nothing: {error}"
    model.tokenizer = digest
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
    """Fit ``head``: (stats, correlation).

    Raises:
        AttemptFailed: there are too few prompts, or a weight is no number.
    """
    for groups, what in ((learnt, "training"), (unseen, "held-out")):
        if len(groups) < config.min_prompts:
            raise AttemptFailed(
                "too_few",
                f"{len(groups)} {what} prompts have answers judged apart, reward.min_prompts is "
                f"{config.min_prompts}",
            )
    work.progress.start(len(learnt) + len(unseen), "prompts")
    with computing(model, config.precision):
        features = features_of_groups(config, model, learnt, work)
        fit_head(head, learnt, features, config.ridge)
        rewards = rewards_of_groups(head, features_of_groups(config, model, unseen, work))
    if not all(bool(p.isfinite().all()) for p in head.parameters()):
        raise AttemptFailed("diverged", "a weight of the head is no number")
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


def features_of_groups(
    config: RewardConfig, model: Decoder, groups: Sequence[Group], work: Workdir
) -> list[Tensor]:
    """Features [answers, f] of each group; prompts of like length are read together."""
    import torch

    from models.answer_features import answer_features
    from models.answer_sequences import join

    order = sorted(range(len(groups)), key=lambda at: groups[at].length)
    features: dict[int, Tensor] = {}
    for start in range(0, len(order), config.batch):
        numbers = order[start : start + config.batch]
        some = [groups[at] for at in numbers]
        sequences = join(
            [group.prompt for group in some for _ in group.answers],
            [answer for group in some for answer in group.answers],
        )
        together = answer_features(model, sequences)
        parts = torch.split(together, [len(group.answers) for group in some])
        features |= dict(zip(numbers, parts, strict=True))
        work.progress.advance(len(some))
    return [features[at] for at in range(len(groups))]


def fit_head(
    head: ScalarHead, groups: Sequence[Group], features: Sequence[Tensor], ridge: float
) -> None:
    """Make ``head`` predict judgements within prompts: mean 0, within-prompt deviation 1.

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
    counts_a = torch.tensor([n for group in groups for n in group.counts]).double()
    wanted = [value for group in groups for value in group.centre(group.judgements)]
    centred_af = torch.cat(
        [_centre(some.double(), group) for some, group in zip(features, groups, strict=True)]
    )
    scale_f = ((counts_a[:, None] * centred_af**2).sum(0) / counts_a.sum()).sqrt()
    scale_f = scale_f.clamp(min=LEAST_DEVIATION)
    x_af = centred_af / scale_f * counts_a.sqrt()[:, None]
    y_a = torch.tensor(wanted, dtype=torch.float64) * counts_a.sqrt()
    penalty_ff = ridge * counts_a.sum() * torch.eye(x_af.shape[1], dtype=torch.float64)
    weights_f = torch.linalg.solve(x_af.T @ x_af + penalty_ff, x_af.T @ y_a) / scale_f
    rewards = [(some.double() @ weights_f).tolist() for some in features]
    deviation = max(within_deviation(groups, rewards), LEAST_DEVIATION)
    weights_f = weights_f / deviation
    with torch.no_grad():
        head.out.weight.copy_(weights_f[None])
        head.out.bias.fill_(-float((every_af @ weights_f).mean()))


def _centre(values_af: Tensor, group: Group) -> Tensor:
    """Features less their mean over the answers given."""
    shares_a = values_af.new_tensor(group.counts) / sum(group.counts)
    return values_af - shares_a @ values_af


def rewards_of_groups(head: ScalarHead, features: Sequence[Tensor]) -> list[list[float]]:
    """Rewards of each group's answers."""
    import torch

    with torch.no_grad():
        return [head(some).tolist() for some in features]
