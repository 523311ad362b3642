"""Prompts with their answers as one right-padded batch, and what a model makes of the answers.

Shapes in names: b batch, t positions, a answer positions, n answer tokens of all rows, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from models.decoder import Decoder


@dataclass(frozen=True)
class Sequences:
    """``ids_bt`` holds a row's prompt, its answer, then padding; every answer has a token."""

    ids_bt: Tensor
    prompts_b: Tensor
    lengths_b: Tensor

    @property
    def mask_ba(self) -> Tensor:
        """True where a row has an answer token, counted from the start of its answer."""
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

    def pick(self, rows: Tensor) -> Sequences:
        """Some rows, without the padding that none of them needs."""
        lengths_b = self.lengths_b[rows]
        return Sequences(self.ids_bt[rows, : int(lengths_b.max())], self.prompts_b[rows], lengths_b)

    def spread(self, values_n: Tensor) -> Tensor:
        """Values of the answer tokens as [b, a], zero where a row has none."""
        mask_ba = self.mask_ba
        out = values_n.new_zeros((*mask_ba.shape, *values_n.shape[1:]))
        out[mask_ba] = values_n
        return out


def join(prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> Sequences:
    """Each prompt with its answer."""
    lengths = [len(p) + len(a) for p, a in zip(prompts, answers, strict=True)]
    ids_bt = torch.zeros(len(prompts), max(lengths), dtype=torch.long)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        ids_bt[row, : lengths[row]] = torch.tensor([*prompt, *answer])
    return Sequences(ids_bt, torch.tensor([len(p) for p in prompts]), torch.tensor(lengths))


def answer_scores(model: Decoder, sequences: Sequences, temperature: float = 1.0) -> Tensor:
    """log p of every token at each answer position when sampled so, [n, v], float32."""
    hidden_nc = model.hidden(sequences.ids_bt)[sequences.places]
    return (model.logits(hidden_nc.float()) / temperature).log_softmax(-1)


def taken(scores_nv: Tensor, tokens_n: Tensor) -> Tensor:
    """log p of the tokens that were said, [n]."""
    return scores_nv.gather(1, tokens_n[:, None])[:, 0]


def entropies(scores_nv: Tensor) -> Tensor:
    """Entropy in nats of each distribution, [n]."""
    return -(scores_nv.exp() * scores_nv).sum(-1)
