"""The principles in PPO: a part of an answer's score, and the choice of the iteration kept.

A reward model is worth less the longer a policy is trained against it (Gao et al. 2022,
arXiv:2210.10760), so the principles themselves, which are rules, score beside it (rule-based
rewards: Mu et al. 2024, arXiv:2411.01111), and the iteration is kept whose answers they judge best,
to questions of training pages that no rollout asks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tokenizers
import torch
from torch import Tensor

from components.align.recipe import PPOConfig
from components.text.answering import Answer, Asked, answer_all, answer_of
from components.text.principles import judge
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

    def judged(self, policy: Decoder) -> float:
        """Mean judgement of the questions kept back; every call draws the same random numbers."""
        answers = answer_all(
            policy,
            self.tokenizer,
            [one.prompt for one in self.asked],
            max_new=self.config.max_new,
            temperature=self.config.temperature,
            seed=self.config.seed,
            batch=AT_ONCE,
        )
        totals = [self._total(*pair) for pair in zip(self.asked, answers, strict=True)]
        return math.fsum(totals) / len(totals)

    def of_each(self, asked: Sequence[Asked], sampled: Sequence[Sampled]) -> list[float]:
        """The judgement, in [0, 1], of each sampled answer."""
        return [
            self._total(one, answer_of(self.tokenizer, said.tokens, finished=said.stopped))
            for one, said in zip(asked, sampled, strict=True)
        ]

    def _total(self, asked: Asked, answer: Answer) -> float:
        return judge(
            self.config.constitution,
            asked.question,
            asked.subject,
            answer.text,
            asked.reference,
            finished=answer.finished,
        ).total


@dataclass(frozen=True)
class Best:
    """The policy that was judged best so far."""

    iteration: int
    judged: float
    weights: Mapping[str, Tensor]

    @classmethod
    def of(cls, iteration: int, judged: float, policy: Decoder) -> Best:
        """A copy of ``policy`` as it is."""
        weights = {name: p.detach().clone() for name, p in policy.named_parameters()}
        return cls(iteration, judged, weights)

    @torch.no_grad()
    def put_back(self, policy: Decoder) -> None:
        """Make ``policy`` what it was."""
        for name, parameter in policy.named_parameters():
            parameter.copy_(self.weights[name])


def set_apart(asked: Sequence[Asked], count: int) -> tuple[list[Asked], list[Asked]]:
    """(questions for rollouts, questions for the jury): at most a quarter for the jury.

    The jury's are the last: the first are those that preference pairs were made of, under an equal
    seed, and a reward model looks better on what it has seen.
    """
    at = len(asked) - min(count, len(asked) // 4)
    known = {one.prompt for one in asked[at:]}
    return [one for one in asked[:at] if one.prompt not in known], list(asked[at:])
