"""Prompts with their answers as one right-padded batch, and the likelihoods of the answers.

Shapes in names: b batch, t positions, a answer positions, n answer tokens of all rows, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoder import Decoder


@dataclass(frozen=True)
class AnswerSequences:
    """Batch of rows of prompt, answer and padding; every answer has at least one token."""

    ids_bt: Tensor
    prompts_b: Tensor
    lengths_b: Tensor

    @property
    def mask_ba(self) -> Tensor:
        """True where a row has an answer token, by position in its answer."""
        answers_b = self.lengths_b - self.prompts_b
        return torch.arange(int(answers_b.max())) < answers_b[:, None]

    @property
    def places(self) -> tuple[Tensor, Tensor]:
        """(row, position) [n] of the hidden states that predict the answer tokens."""
        rows, offsets = self.mask_ba.nonzero(as_tuple=True)
        return rows, self.prompts_b[rows] - 1 + offsets

    @property
    def answers_n(self) -> Tensor:
        """The answer tokens."""
        rows, positions = self.places
        return self.ids_bt[rows, positions + 1]

    def pick(self, rows: Tensor) -> AnswerSequences:
        """Select rows, without the padding that none of them needs."""
        lengths_b = self.lengths_b[rows]
        return AnswerSequences(
            self.ids_bt[rows, : int(lengths_b.max())], self.prompts_b[rows], lengths_b
        )

    def spread(self, values_n: Tensor) -> Tensor:
        """Scatter values of the answer tokens to [b, a], zero where a row has none."""
        mask_ba = self.mask_ba
        out = values_n.new_zeros((*mask_ba.shape, *values_n.shape[1:]))
        out[mask_ba] = values_n
        return out


def join_answers(
    prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> AnswerSequences:
    """Concatenate each prompt with its answer, and pad."""
    lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    ids_bt = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids_bt[row, : lengths[row]] = torch.tensor([*prompt, *answer])
    return AnswerSequences(ids_bt, torch.tensor([len(p) for p in prompts]), torch.tensor(lengths))


def answer_log_probs(
    model: Decoder, sequences: AnswerSequences, temperature: float = 1.0
) -> Tensor:
    """Log-probabilities [n, v] of every token at each answer position, float32.

    Args:
        model: scores the sequences.
        sequences: prompts with answers.
        temperature: temperature of the sampling.
    """
    hidden_nc = model.hidden(sequences.ids_bt)[sequences.places]
    return (model.logits(hidden_nc.float()) / temperature).log_softmax(-1)


def token_log_probs(scores_nv: Tensor, tokens_n: Tensor) -> Tensor:
    """Log-probabilities [n] of the tokens that were sampled."""
    return scores_nv.gather(1, tokens_n[:, None])[:, 0]


def token_entropies(scores_nv: Tensor) -> Tensor:
    """Entropies [n] of the distributions, in nats."""
    return -(scores_nv.exp() * scores_nv).sum(-1)
