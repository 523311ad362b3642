"""The principles in PPO: a part of an answer's score, and the choice of the iteration kept.

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
import tokenizers
import torch
from torch import Tensor

from components.align.judge_samples import judge_answer
from components.align.ppo_config import PPOConfig
from components.core.stats.paired_difference import Pairs
from components.text.chat.ask_model import Asked, answer_all, answer_of
from models.decoder import Decoder
from models.generate import Sampled

AT_ONCE = 128
"""Answers sampled together: their keys and values are what takes the memory."""


@dataclass(frozen=True)
class Jury:
    """How answers are judged, and the questions kept back for it."""

    config: PPOConfig
    tokenizer: tokenizers.Tokenizer
    asked: Sequence[Asked]

    def judge_policy(self, policy: Decoder) -> tuple[float, ...]:
        """Mean judgement of the answers to each prompt kept back.

        Every call draws the same random numbers, so two policies' judgements are pairs.
        """
        draws = self.config.judged_draws
        prompts = [prompt for prompt in self.asked for _ in range(draws)]
        answers = answer_all(
            policy,
            self.tokenizer,
            [prompt.prompt for prompt in prompts],
            max_new=self.config.max_new,
            temperature=self.config.temperature,
            seed=self.config.seed,
            batch=AT_ONCE,
        )
        totals = [
            judge_answer(self.config.constitution, prompt, answer).total
            for prompt, answer in zip(prompts, answers, strict=True)
        ]
        return tuple(
            math.fsum(totals[at : at + draws]) / draws for at in range(0, len(totals), draws)
        )

    def pair(self, after: Sequence[float], before: Sequence[float]) -> Pairs:
        """Two judgements of all prompts as pairs, summed page by page."""
        pages = np.unique([prompt.page for prompt in self.asked], return_inverse=True)[1]
        gaps = np.subtract(after, before)
        return Pairs(
            len(gaps),
            np.bincount(pages, weights=gaps).astype(np.float64),
            np.bincount(pages).astype(np.float64),
        )

    def of_each(self, asked: Sequence[Asked], sampled: Sequence[Sampled]) -> list[float]:
        """The judgement, in [0, 1], of each sampled answer."""
        answers = [answer_of(self.tokenizer, one.tokens, finished=one.stopped) for one in sampled]
        return [
            judge_answer(self.config.constitution, prompt, answer).total
            for prompt, answer in zip(asked, answers, strict=True)
        ]


@dataclass(frozen=True)
class Best:
    """The policy that was judged best so far."""

    iteration: int
    judged: tuple[float, ...]
    """The judgement of each prompt kept back."""
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, iteration: int, judged: tuple[float, ...], policy: Decoder) -> Best:
        """A copy of ``policy`` as it is."""
        weights = {name: p.detach().clone() for name, p in policy.named_parameters()}
        return cls(iteration, judged, weights)

    @property
    def mean(self) -> float:
        """The figure that iterations are ranked by."""
        return math.fsum(self.judged) / len(self.judged)

    @torch.no_grad()
    def put_back(self, policy: Decoder) -> None:
        """Make ``policy`` what it was."""
        for name, parameter in policy.named_parameters():
            parameter.copy_(self.weights[name])


def set_apart(asked: Sequence[Asked], count: int) -> tuple[list[Asked], list[Asked]]:
    """(prompts for rollouts, at most ``count`` for the jury), apart by page where there are enough.

    The jury's are of the last quarter of the pages, so that it judges pages that no rollout asks:
    answers about one page resemble each other. Of fewer than four pages a quarter of the prompts is
    taken, and no prompt that is equal to one of them is rolled out.
    """
    pages = list(dict.fromkeys(one.page for one in asked))
    apart = set(pages[len(pages) - len(pages) // 4 :])
    if count and apart:
        jury = [one for one in asked if one.page in apart][:count]
        rest = [one for one in asked if one.page not in apart]
    else:
        at = len(asked) - min(count, len(asked) // 4)
        jury, rest = list(asked[at:]), list(asked[:at])
    known = {one.prompt for one in jury}
    return [one for one in rest if one.prompt not in known], jury
