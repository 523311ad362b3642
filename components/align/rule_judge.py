"""Rule judge of PPO: the principles as a part of every score, and as the choice of an iteration.

A reward model is worth less the longer a policy is trained against it (Gao et al. 2022,
arXiv:2210.10760), so the principles themselves, which are rules, score beside it or in its place
(rule-based rewards: Mu et al. 2024, arXiv:2411.01111), and the iteration is kept whose answers they
judge best, to prompts that no rollout asks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from components.align.judge_samples import judge_sample
from components.align.ppo_config import PPOConfig
from components.core.stats.paired_difference import ItemPairs
from components.text.chat.ask_model import QuestionPrompt, decode_answer, sample_answers
from components.text.chat.chat_tokenizer import ChatTokenizer
from models.decoder import Decoder
from models.generate import SampledAnswer

SAMPLING_BATCH = 128
"""Answers sampled together: their keys and values are what takes the memory."""


@dataclass(frozen=True)
class RuleJudge:
    """The principles as a judge, with the prompts held back from rollouts for it."""

    config: PPOConfig
    tokenizer: ChatTokenizer
    prompts: Sequence[QuestionPrompt]

    def judge_policy(self, policy: Decoder) -> tuple[float, ...]:
        """Mean judgement of the answers to each prompt held back.

        Every call draws the same random numbers, so two policies' judgements are pairs.
        """
        draws = self.config.judged_draws
        repeated_prompts = [prompt for prompt in self.prompts for _ in range(draws)]
        answers = sample_answers(
            policy,
            self.tokenizer,
            [prompt.token_ids for prompt in repeated_prompts],
            max_new=self.config.max_new,
            temperature=self.config.temperature,
            seed=self.config.seed,
            batch=SAMPLING_BATCH,
        )
        totals = [
            judge_sample(self.config.constitution, prompt, answer).total
            for prompt, answer in zip(repeated_prompts, answers, strict=True)
        ]
        return tuple(
            math.fsum(totals[at : at + draws]) / draws for at in range(0, len(totals), draws)
        )

    def pair_judgements(self, after: Sequence[float], before: Sequence[float]) -> ItemPairs:
        """Pair two policies' judgements of all prompts, gaps summed page by page."""
        pages = np.unique([prompt.page for prompt in self.prompts], return_inverse=True)[1]
        gaps = np.subtract(after, before)
        return ItemPairs(
            len(gaps),
            np.bincount(pages, weights=gaps).astype(np.float64),
            np.bincount(pages).astype(np.float64),
        )

    def judge_samples(
        self, prompts: Sequence[QuestionPrompt], sampled: Sequence[SampledAnswer]
    ) -> list[float]:
        """Judge each sampled answer, in [0, 1]."""
        answers = [decode_answer(self.tokenizer, s.tokens, finished=s.stopped) for s in sampled]
        return [
            judge_sample(self.config.constitution, prompt, answer).total
            for prompt, answer in zip(prompts, answers, strict=True)
        ]


@dataclass(frozen=True)
class BestPolicy:
    """Copy of the policy that was judged best so far."""

    iteration: int
    judgements: tuple[float, ...]
    """Mean judgement of each prompt held back."""
    weights: Mapping[str, Tensor]

    @classmethod
    def snapshot(cls, iteration: int, judgements: tuple[float, ...], policy: Decoder) -> BestPolicy:
        """Copy a policy.

        Args:
            iteration: after which it was judged.
            judgements: judgements of each prompt held back.
            policy: the weights to copy.
        """
        weights = {name: p.detach().clone() for name, p in policy.named_parameters()}
        return cls(iteration, judgements, weights)

    @property
    def mean_judgement(self) -> float:
        """Mean of all judgements, by which iterations are ranked."""
        return math.fsum(self.judgements) / len(self.judgements)

    @torch.no_grad()
    def restore_into(self, policy: Decoder) -> None:
        """Overwrite the weights of ``policy`` by the copy."""
        for name, parameter in policy.named_parameters():
            parameter.copy_(self.weights[name])


def split_prompts(
    prompts: Sequence[QuestionPrompt], count: int
) -> tuple[list[QuestionPrompt], list[QuestionPrompt]]:
    """Split prompts, by page if possible, into those of rollouts and at most ``count`` to judge by.

    The judge's are of the last quarter of the pages, so that it judges pages that no rollout asks:
    answers about one page resemble each other. Of fewer than four pages a quarter of the prompts is
    taken, and no prompt that is equal to one of them is rolled out.
    """
    pages = list(dict.fromkeys(prompt.page for prompt in prompts))
    held_back_pages = set(pages[len(pages) - len(pages) // 4 :])
    if count and held_back_pages:
        judged = [prompt for prompt in prompts if prompt.page in held_back_pages][:count]
        rollout = [prompt for prompt in prompts if prompt.page not in held_back_pages]
    else:
        first = len(prompts) - min(count, len(prompts) // 4)
        judged, rollout = list(prompts[first:]), list(prompts[:first])
    judged_ids = {prompt.token_ids for prompt in judged}
    return [prompt for prompt in rollout if prompt.token_ids not in judged_ids], judged
