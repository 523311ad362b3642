"""A rollout: the policy answers questions, the reward model scores, the reference looks on.

Shapes in names: b answers, a answer positions, n answer tokens of all rows, c model width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from components.align.recipe import PPOConfig
from components.align.reward import HEAD_FILE
from components.core.precision import computing
from components.core.weights import load_model, load_weights
from components.text.answering import Asked
from components.text.chat import END_ID
from models.decoder import Decoder
from models.generate import Sampled, generate
from models.heads import ScalarHead, last_position
from models.sequences import Sequences, answer_scores, entropies, join, taken

T = TypeVar("T")


@dataclass(frozen=True)
class RewardModel:
    """The frozen trunk and head that score an answer at its last token."""

    trunk: Decoder
    head: ScalarHead

    @classmethod
    def load(cls, folder: Path) -> RewardModel:
        """The reward model saved in ``folder``."""
        trunk = load_model(folder).requires_grad_(False)
        head = ScalarHead(trunk.shape.width).requires_grad_(False)
        load_weights(folder, head, HEAD_FILE)
        return cls(trunk, head)


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
    rewards_b: Tensor
    """Scores of the reward model, in deviations over answers of the reference."""
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

    def scores(self, config: PPOConfig) -> Tensor:
        """Clipped rewards [b], less the penalty of answers that did not end."""
        bound = config.score_clip
        unended_b = config.unfinished * (~self.finished_b)
        return self.rewards_b.clamp(-bound, bound) - unended_b


def roll_out(
    config: PPOConfig, players: Players, asked: Sequence[Asked], generator: torch.Generator
) -> Rollout:
    """Answer each question once and score the answers."""
    prompts = [one.prompt for one in asked]
    sampled = generate(
        players.policy,
        prompts,
        max_new=config.max_new,
        stop=END_ID,
        temperature=config.temperature,
        generator=generator,
    )
    rewards = rewards_of(config, players.reward, prompts, sampled)
    kept = [
        start + number
        for start in range(0, len(prompts), config.samples)
        for number in extremes(rewards[start : start + config.samples], config.kept)
    ]
    return observe(config, players, [prompts[at] for at in kept], [sampled[at] for at in kept])


def extremes(scores: Sequence[float], count: int) -> list[int]:
    """Numbers of the ``count`` lowest and highest scores, half of each: those that differ most."""
    order = sorted(range(len(scores)), key=lambda at: scores[at])
    low = count // 2
    return sorted(order[:low] + order[len(order) - (count - low) :])


@torch.no_grad()
def rewards_of(
    config: PPOConfig,
    reward: RewardModel,
    prompts: Sequence[Sequence[int]],
    sampled: Sequence[Sampled],
) -> list[float]:
    """Scores of answers as learning will see them."""
    order = sorted(range(len(prompts)), key=lambda at: len(prompts[at]) + len(sampled[at].tokens))
    rows = join([prompts[at] for at in order], [sampled[at].tokens for at in order])
    trunk = _each(config, reward.trunk, rows, lambda m, s: (m.hidden(s.ids_bt), s))
    found = torch.cat([last_position(reward.head(h), s.lengths_b) for h, s in trunk]).tolist()
    scores = dict(zip(order, found, strict=True))
    return [
        scores[at] - config.unfinished * (not sampled[at].stopped) for at in range(len(prompts))
    ]


@torch.no_grad()
def observe(
    config: PPOConfig,
    players: Players,
    prompts: Sequence[Sequence[int]],
    sampled: Sequence[Sampled],
) -> Rollout:
    """Score answers as learning will see them, sorted by length, which leaves little padding."""
    both = sorted(
        zip(prompts, sampled, strict=True), key=lambda pair: len(pair[0]) + len(pair[1].tokens)
    )
    numbers = {tuple(prompt): number for number, prompt in enumerate(prompts)}
    sequences = join([prompt for prompt, _ in both], [one.tokens for _, one in both])
    said = partial(_said, config.temperature)
    policy = _each(config, players.policy, sequences, said)
    logprobs_n, entropies_n = (torch.cat(column) for column in zip(*policy, strict=True))
    reference = _each(config, players.reference, sequences, said)
    trunk = _each(config, players.reward.trunk, sequences, lambda m, s: (m.hidden(s.ids_bt), s))
    head = players.reward.head
    return Rollout(
        sequences=sequences,
        mask_ba=sequences.mask_ba,
        logprobs_ba=sequences.spread(logprobs_n),
        reference_ba=sequences.spread(torch.cat([one for one, _ in reference])),
        features_bac=sequences.spread(torch.cat([h[s.places].float() for h, s in trunk])),
        rewards_b=torch.cat([last_position(head(h), s.lengths_b) for h, s in trunk]),
        finished_b=torch.tensor([one.stopped for _, one in both]),
        questions_b=torch.tensor([numbers[tuple(prompt)] for prompt, _ in both]),
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
