"""PPO rollouts: answers sampled by the actor, their scores, and what the frozen models see of them.

Shapes in names: b answers, a answer positions, n answer tokens of all rows, c model width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from components.align.attempt import AttemptFailed
from components.align.ppo_config import PPOConfig
from components.align.reward_model import RewardModel
from components.align.rule_judge import SAMPLING_BATCH, RuleJudge
from components.text.chat.ask_model import QuestionPrompt
from models.answer_features import answer_features
from models.answer_sequences import (
    AnswerSequences,
    answer_log_probs,
    join_answers,
    token_entropies,
    token_log_probs,
)
from models.decoder import Decoder
from models.generate import SampledAnswer, generate_answers
from models.precision import compute_in

T = TypeVar("T")


@dataclass(frozen=True)
class PPOModels:
    """Models of one PPO run: the actor is trained, the others are frozen."""

    actor: Decoder
    reference: Decoder
    reward_model: RewardModel


@dataclass(frozen=True)
class Rollout:
    """Sampled answers with the log-probabilities, features and scores of the time of sampling."""

    sequences: AnswerSequences
    mask_ba: Tensor
    logprobs_ba: Tensor
    reference_logprobs_ba: Tensor
    value_features_bac: Tensor
    """The reward trunk's hidden states before each token: what the value head reads."""
    scores_b: Tensor
    """Score of each answer, in within-prompt deviations of reward."""
    finished_b: Tensor
    prompt_index_b: Tensor
    """Number of each answer's prompt."""
    mean_entropy: float
    """Nats a token."""

    @property
    def mean_kl(self) -> float:
        """KL from the reference in nats an answer, estimated from the sampled tokens."""
        return float(((self.logprobs_ba - self.reference_logprobs_ba) * self.mask_ba).sum(1).mean())

    @property
    def mean_length(self) -> float:
        """Mean tokens an answer."""
        return float(self.mask_ba.sum(1).float().mean())


def sample_rollout(
    config: PPOConfig,
    models: PPOModels,
    judge: RuleJudge,
    prompts: Sequence[QuestionPrompt],
    generator: torch.Generator,
) -> Rollout:
    """Sample an answer to each prompt, score all, and record the most extreme ones of a question.

    Args:
        config: the sampling, and how many answers of a question are kept.
        models: the actor answers, the others look on.
        judge: scores by the principles.
        prompts: ``config.samples`` equal ones of a question stand one behind another.
        generator: random numbers of the sampling.

    Raises:
        AttemptFailed: a score is not finite, or the judge failed.
    """
    prompt_ids = [prompt.token_ids for prompt in prompts]
    sampled = [
        answer
        for start in range(0, len(prompt_ids), SAMPLING_BATCH)
        for answer in generate_answers(
            models.actor,
            prompt_ids[start : start + SAMPLING_BATCH],
            max_new=config.max_new,
            stop_ids=judge.tokenizer.answer_end_ids,
            temperature=config.temperature,
            generator=generator,
        )
    ]
    scores = score_answers(config, models.reward_model, judge, prompts, sampled)
    if not all(map(math.isfinite, scores)):
        raise AttemptFailed("diverged", "a reward is no number")
    chosen = [
        start + number
        for start in range(0, len(prompt_ids), config.samples)
        for number in select_extremes(scores[start : start + config.samples], config.kept_samples)
    ]
    return record_rollout(
        config,
        models,
        [prompt_ids[at] for at in chosen],
        [sampled[at] for at in chosen],
        [scores[at] for at in chosen],
    )


def select_extremes(scores: Sequence[float], count: int) -> list[int]:
    """Indices of the ``count`` most extreme scores, half of them the lowest, half the highest."""
    order = sorted(range(len(scores)), key=lambda at: scores[at])
    low = count // 2
    return sorted(order[:low] + order[len(order) - (count - low) :])


def is_reward_model_trusted(config: PPOConfig, reward_model: RewardModel) -> bool:
    """Tell whether the reward model agrees with the principles well enough to reward."""
    return reward_model.correlation.value >= config.min_correlation


def score_answers(
    config: PPOConfig,
    reward_model: RewardModel,
    judge: RuleJudge,
    prompts: Sequence[QuestionPrompt],
    sampled: Sequence[SampledAnswer],
) -> list[float]:
    """Score answers: judgement by the principles, clipped reward, penalty for an unfinished answer.

    Args:
        config: the weight of each part.
        reward_model: takes part only where it is trusted.
        judge: judges by the principles.
        prompts: the prompt of each answer.
        sampled: the answers.
    """
    trusted = is_reward_model_trusted(config, reward_model)
    weight = config.beside_model if trusted else config.principles
    judgements = judge.judge_samples(prompts, sampled) if weight else [0.0] * len(prompts)
    rewards = (
        reward_answers(config, reward_model, prompts, sampled) if trusted else [0.0] * len(prompts)
    )
    return [
        rewards[at] + weight * judgements[at] - config.unfinished * (not sampled[at].stopped)
        for at in range(len(prompts))
    ]


@torch.no_grad()
def reward_answers(
    config: PPOConfig,
    reward_model: RewardModel,
    prompts: Sequence[QuestionPrompt],
    sampled: Sequence[SampledAnswer],
) -> list[float]:
    """The reward model's scores less their prompt's mean, clipped, in within-prompt deviations.

    The level of a prompt says nothing of its answers (the head was fitted without it), and would
    clip them all alike.

    Args:
        config: ``samples`` answers of a prompt stand one behind another.
        reward_model: scores each answer.
        prompts: the prompt of each answer.
        sampled: the answers.
    """
    prompt_ids = [prompt.token_ids for prompt in prompts]
    order = sorted(
        range(len(prompt_ids)), key=lambda at: len(prompt_ids[at]) + len(sampled[at].tokens)
    )
    rows = join_answers([prompt_ids[at] for at in order], [sampled[at].tokens for at in order])
    rewards_b = torch.cat(
        _map_batches(
            config, reward_model.trunk, rows, lambda m, s: reward_model.head(answer_features(m, s))
        )
    )
    rewards_ps = rewards_b[torch.tensor(order).argsort()].view(-1, config.samples)
    centred_ps = rewards_ps - rewards_ps.mean(1, keepdim=True)
    return centred_ps.clamp(-config.score_clip, config.score_clip).flatten().tolist()


@torch.no_grad()
def record_rollout(
    config: PPOConfig,
    models: PPOModels,
    prompt_ids: Sequence[Sequence[int]],
    sampled: Sequence[SampledAnswer],
    scores: Sequence[float],
) -> Rollout:
    """Compute what learning needs of answers; rows are sorted by length, which saves padding.

    Args:
        config: temperature, micro-batch and precision.
        models: actor and reference give log-probabilities, the reward trunk gives value features.
        prompt_ids: tokens of each answer's prompt.
        sampled: the answers.
        scores: scores of the answers.
    """
    rows = sorted(
        zip(prompt_ids, sampled, scores, strict=True),
        key=lambda row: len(row[0]) + len(row[1].tokens),
    )
    numbers = {tuple(prompt): number for number, prompt in enumerate(prompt_ids)}
    sequences = join_answers(
        [prompt for prompt, _, _ in rows], [answer.tokens for _, answer, _ in rows]
    )
    token_logprobs = partial(_token_logprobs, config.temperature)
    policy = _map_batches(config, models.actor, sequences, token_logprobs)
    logprobs_n, entropies_n = (torch.cat(column) for column in zip(*policy, strict=True))
    reference = _map_batches(config, models.reference, sequences, token_logprobs)
    trunk = _map_batches(
        config, models.reward_model.trunk, sequences, lambda m, s: (m.hidden(s.ids_bt), s)
    )
    return Rollout(
        sequences=sequences,
        mask_ba=sequences.mask_ba,
        logprobs_ba=sequences.spread(logprobs_n),
        reference_logprobs_ba=sequences.spread(torch.cat([logprobs for logprobs, _ in reference])),
        value_features_bac=sequences.spread(torch.cat([h[s.places].float() for h, s in trunk])),
        scores_b=torch.tensor([score for _, _, score in rows]),
        finished_b=torch.tensor([answer.stopped for _, answer, _ in rows]),
        prompt_index_b=torch.tensor([numbers[tuple(prompt)] for prompt, _, _ in rows]),
        mean_entropy=float(entropies_n.mean()),
    )


def _token_logprobs(
    temperature: float, model: Decoder, sequences: AnswerSequences
) -> tuple[Tensor, Tensor]:
    scores_nv = answer_log_probs(model, sequences, temperature)
    return token_log_probs(scores_nv, sequences.answers_n), token_entropies(scores_nv)


def _map_batches(
    config: PPOConfig,
    model: Decoder,
    sequences: AnswerSequences,
    function: Callable[[Decoder, AnswerSequences], T],
) -> list[T]:
    """Apply ``function`` to ``config.batch`` rows at a time, which bounds the memory."""
    rows = torch.split(torch.arange(len(sequences.ids_bt)), config.batch)
    with compute_in(model, config.precision):
        return [function(model, sequences.pick(batch)) for batch in rows]
