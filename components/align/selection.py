"""Which iteration is kept: the one whose answers the principles judge best, on training pages.

A reward model is worth less the longer a policy is trained against it (Gao et al. 2022,
arXiv:2210.10760). The questions asked here are of training pages, but no rollout asks them; and
what chooses among iterations never gives a gradient.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import tokenizers
import torch
from torch import Tensor

from components.align.recipe import PPOConfig
from components.text.answering import Asked, answer_all
from components.text.principles import judge
from models.decoder import Decoder


@dataclass(frozen=True)
class Jury:
    """Questions kept back, and how their answers are judged."""

    config: PPOConfig
    tokenizer: tokenizers.Tokenizer
    asked: Sequence[Asked]

    def judged(self, policy: Decoder) -> float:
        """Mean judgement; every call draws the same random numbers."""
        answers = answer_all(
            policy,
            self.tokenizer,
            [one.prompt for one in self.asked],
            max_new=self.config.max_new,
            temperature=self.config.temperature,
            seed=self.config.seed,
            batch=self.config.answers,
        )
        totals = [
            judge(
                self.config.constitution,
                one.question,
                one.subject,
                answer.text,
                one.reference,
                finished=answer.finished,
            ).total
            for one, answer in zip(self.asked, answers, strict=True)
        ]
        return math.fsum(totals) / len(totals)


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
