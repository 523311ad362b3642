"""A rollout: the policy answers questions, the reward model scores, the reference looks on.

Shapes in names: b answers, a answer positions, n answer tokens of all rows, c model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from components.align.attempt import AttemptFailed
from components.align.ppo_config import PPOConfig
from components.align.reward_agreement import read_correlation
from components.align.reward_model import HEAD_FILE
from components.align.rule_judge import AT_ONCE, Jury
from components.core.stats.figures import Figure
from components.text.chat.ask_model import Asked
from components.text.chat.chat_template import END_ID
from components.text.decoder_files import load_model, load_weights
from models.answer_features import answer_features, feature_width
from models.answer_sequences import Sequences, answer_scores, entropies, join, taken
from models.decoder import Decoder
from models.generate import Sampled, generate
from models.precision import computing
from models.scalar_head import ScalarHead

T = TypeVar("T")


@dataclass(frozen=True)
class RewardModel:
    """The frozen trunk, and the head that scores an answer by the features it sees."""

    trunk: Decoder
    head: ScalarHead
    correlation: Figure
    """With the principles' judgement of a policy's answers, within a prompt."""

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        """The reward model saved in ``folder``."""
        trunk = load_model(folder).requires_grad_(False)
        head = ScalarHead(feature_width(trunk.shape)).requires_grad_(False)
        load_weights(folder, head, HEAD_FILE)
        return cls(trunk, head, read_correlation(folder))


@dataclass(frozen=True)
class Players:
    """Who takes part: the policy learns, the others are frozen."""

    policy: Decoder
    reference: Decoder
    reward: RewardModel


@dataclass(frozen=True)
class Rollout:
    """Answers and all that learning needs to know of them, as they were when sampled."""

    sequences: Sequences
    mask_ba: Tensor
    logprobs_ba: Tensor
    reference_ba: Tensor
    features_bac: Tensor
    """The reward trunk's hidden states before each token: what the value head reads."""
    scores_b: Tensor
    """What the answers are worth, in deviations of reward over answers of the reference."""
    finished_b: Tensor
    questions_b: Tensor
    """Equal where the question is."""
    entropy: float
    """Mean nats a token."""

    @property
    def kl(self) -> float:
        """Nats of KL from the reference an answer, estimated from the tokens said."""
        return float(((self.logprobs_ba - self.reference_ba) * self.mask_ba).sum(1).mean())

    @property
    def length(self) -> float:
        """Mean tokens an answer."""
        return float(self.mask_ba.sum(1).float().mean())


def roll_out(
    config: PPOConfig,
    players: Players,
    jury: Jury,
    asked: Sequence[Asked],
    generator: torch.Generator,
) -> Rollout:
    """Answer each question once and score the answers."""
    prompts = [one.prompt for one in asked]
    sampled = [
        one
        for start in range(0, len(prompts), AT_ONCE)
        for one in generate(
            players.policy,
            prompts[start : start + AT_ONCE],
            max_new=config.max_new,
            stop=END_ID,
            temperature=config.temperature,
            generator=generator,
        )
    ]
    scores = scores_of(config, players.reward, jury, asked, sampled)
    if not all(map(math.isfinite, scores)):
        raise AttemptFailed("diverged", "a reward is no number")
    kept = [
        start + number
        for start in range(0, len(prompts), config.samples)
        for number in extremes(scores[start : start + config.samples], config.kept)
    ]
    return observe(
        config,
        players,
        [prompts[at] for at in kept],
        [sampled[at] for at in kept],
        [scores[at] for at in kept],
    )


def extremes(scores: Sequence[float], count: int) -> list[int]:
    """Numbers of the ``count`` lowest and highest scores, half of each: those that differ most."""
    order = sorted(range(len(scores)), key=lambda at: scores[at])
    low = count // 2
    return sorted(order[:low] + order[len(order) - (count - low) :])


def is_trusted(config: PPOConfig, reward: RewardModel) -> bool:
    """Whether the reward model knows enough of what the principles say to reward."""
    return reward.correlation.value >= config.min_correlation


def scores_of(
    config: PPOConfig,
    reward: RewardModel,
    jury: Jury,
    asked: Sequence[Asked],
    sampled: Sequence[Sampled],
) -> list[float]:
    """Scores of answers: the principles, the clipped reward, and a penalty for no end.

    Args:
        config: how much each counts.
        reward: takes part only where it is trusted.
        jury: judges by the principles.
        asked: the prompt of each answer.
        sampled: the answers.
    """
    trusted = is_trusted(config, reward)
    weight = config.beside_model if trusted else config.principles
    judged = jury.of_each(asked, sampled) if weight else [0.0] * len(asked)
    rewards = rewards_of(config, reward, asked, sampled) if trusted else [0.0] * len(asked)
    return [
        rewards[at] + weight * judged[at] - config.unfinished * (not sampled[at].stopped)
        for at in range(len(asked))
    ]


@torch.no_grad()
def rewards_of(
    config: PPOConfig, reward: RewardModel, asked: Sequence[Asked], sampled: Sequence[Sampled]
) -> list[float]:
    """The reward model's scores less their prompt's mean, clipped, in within-prompt deviations.

    The level of a prompt says nothing of its answers (the head was fitted without it), and would
    clip them all alike.

    Args:
        config: ``samples`` answers of a prompt stand one behind another.
        reward: the model.
        asked: the prompt of each answer.
        sampled: the answers.
    """
    prompts = [one.prompt for one in asked]
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]) + len(sampled[at].tokens))
    rows = join([prompts[at] for at in order], [sampled[at].tokens for at in order])
    rewards_b = torch.cat(
        _each(config, reward.trunk, rows, lambda m, s: reward.head(answer_features(m, s)))
    )
    rewards_ps = rewards_b[torch.tensor(order).argsort()].view(-1, config.samples)
    centred_ps = rewards_ps - rewards_ps.mean(1, keepdim=True)
    return centred_ps.clamp(-config.score_clip, config.score_clip).flatten().tolist()


@torch.no_grad()
def observe(
    config: PPOConfig,
    players: Players,
    prompts: Sequence[Sequence[int]],
    sampled: Sequence[Sampled],
    scores: Sequence[float],
) -> Rollout:
    """Look at answers as learning will see them, sorted by length, which leaves little padding."""
    rows = sorted(
        zip(prompts, sampled, scores, strict=True),
        key=lambda row: len(row[0]) + len(row[1].tokens),
    )
    numbers = {tuple(prompt): number for number, prompt in enumerate(prompts)}
    sequences = join([prompt for prompt, _, _ in rows], [one.tokens for _, one, _ in rows])
    said = partial(_said, config.temperature)
    policy = _each(config, players.policy, sequences, said)
    logprobs_n, entropies_n = (torch.cat(column) for column in zip(*policy, strict=True))
    reference = _each(config, players.reference, sequences, said)
    trunk = _each(config, players.reward.trunk, sequences, lambda m, s: (m.hidden(s.ids_bt), s))
    return Rollout(
        sequences=sequences,
        mask_ba=sequences.mask_ba,
        logprobs_ba=sequences.spread(logprobs_n),
        reference_ba=sequences.spread(torch.cat([one for one, _ in reference])),
        features_bac=sequences.spread(torch.cat([h[s.places].float() for h, s in trunk])),
        scores_b=torch.tensor([score for _, _, score in rows]),
        finished_b=torch.tensor([one.stopped for _, one, _ in rows]),
        questions_b=torch.tensor([numbers[tuple(prompt)] for prompt, _, _ in rows]),
        entropy=float(entropies_n.mean()),
    )


def _said(temperature: float, model: Decoder, sequences: Sequences) -> tuple[Tensor, Tensor]:
    scores_nv = answer_scores(model, sequences, temperature)
    return taken(scores_nv, sequences.answers_n), entropies(scores_nv)


def _each(
    config: PPOConfig,
    model: Decoder,
    sequences: Sequences,
    look: Callable[[Decoder, Sequences], T],
) -> list[T]:
    """``look`` at the rows, as many at a time as learning takes, which bounds the memory."""
    rows = torch.split(torch.arange(len(sequences.ids_bt)), config.batch)
    with computing(model, config.precision):
        return [look(model, sequences.pick(some)) for some in rows]
