"""Micro-batches of pretraining: what the model is given at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from components.train.data.data_order import Blocks


@dataclass(frozen=True)
class Micro:
    """inputs and targets [b, t], and how many targets are real.

    ``documents`` [b, t] or ``mask`` [b, 1, t, t] keep documents apart; both are None where causal
    attention is enough. ``real`` [b, t] is None where no position only fills up.
    """

    inputs: Tensor
    targets: Tensor
    real: Tensor | None
    count: int
    documents: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: torch.device) -> Micro:
        """On another device; copies run on beside what it computes."""
        if device.type == "cpu":
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        parts = (self.real, self.documents, self.mask)
        real, documents, mask = (None if part is None else moved(part) for part in parts)
        return Micro(moved(self.inputs), moved(self.targets), real, self.count, documents, mask)

    def share(self, targets: float) -> Tensor:
        """Each target's weight in a mean over ``targets`` of them, [b, t]."""
        weight = torch.full_like(self.targets, 1.0 / targets, dtype=torch.float32)
        return weight if self.real is None else weight * self.real


def micro_batches(blocks: Blocks, tokens: int, *, masks: bool = True) -> list[Micro]:
    """Blocks as micro-batches of at most ``tokens`` positions, and of one block at least.

    With ``masks`` these keep documents apart, else the documents' numbers do: less for a GPU to
    be sent, which makes of them what its kernels take. Everything is made by numpy: torch's own
    threads would run beside those of the step at work.
    """
    rows = max(1, tokens // blocks.inputs.shape[1])
    parts = (blocks.part(at, at + rows) for at in range(0, len(blocks.inputs), rows))
    return [_micro(part, masks) for part in parts if part.count]


def _micro(part: Blocks, masks: bool) -> Micro:
    numbers, documents, mask = part.documents, None, None
    if (numbers[:, 1:] != numbers[:, :1]).any():  # some row holds more than one document
        if masks:
            same = numbers[:, None, :, None] == numbers[:, None, None, :]
            mask = torch.from_numpy(same & np.tri(numbers.shape[1], dtype=np.bool_))
        else:
            documents = torch.from_numpy(numbers.copy())
    real = None if part.real is None else torch.from_numpy(part.real.copy())
    inputs, targets = (torch.from_numpy(ids.copy()) for ids in (part.inputs, part.targets))
    return Micro(inputs, targets, real, part.count, documents, mask)
