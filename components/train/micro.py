"""Micro-batches of pretraining: what the model is given at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from components.train.order import Blocks


@dataclass(frozen=True)
class Micro:
    """inputs and targets [b, t], mask [b, 1, t, t], real [b, t], and how many targets are real.

    ``mask`` is None where causal attention is enough, ``real`` where no position only fills up.
    """

    inputs: Tensor
    targets: Tensor
    mask: Tensor | None
    real: Tensor | None
    count: int

    def to(self, device: torch.device) -> Micro:
        """On another device; copies run on beside what it computes."""
        if device.type == "cpu":
            return self
        moved = [
            None if tensor is None else tensor.pin_memory().to(device, non_blocking=True)
            for tensor in (self.inputs, self.targets, self.mask, self.real)
        ]
        inputs, targets, mask, real = moved
        assert inputs is not None
        assert targets is not None
        return Micro(inputs, targets, mask, real, self.count)

    def share(self, targets: float) -> Tensor:
        """Each target's weight in a mean over ``targets`` of them, [b, t]."""
        weight = torch.full_like(self.targets, 1.0 / targets, dtype=torch.float32)
        return weight if self.real is None else weight * self.real


def micro_batches(blocks: Blocks, tokens: int) -> list[Micro]:
    """Blocks as micro-batches of at most ``tokens`` positions, and of one block at least.

    Everything is made by numpy: torch's own threads would run beside those of the step at work.
    """
    rows = max(1, tokens // blocks.inputs.shape[1])
    parts = (blocks.part(at, at + rows) for at in range(0, len(blocks.inputs), rows))
    return [_micro(part) for part in parts if part.count]


def _micro(part: Blocks) -> Micro:
    documents = part.documents
    mask = None
    if (documents[:, 1:] != documents[:, :1]).any():  # some row holds more than one document
        length = documents.shape[1]
        same = documents[:, None, :, None] == documents[:, None, None, :]
        mask = torch.from_numpy(same & np.tri(length, dtype=np.bool_))
    real = None if part.real is None else torch.from_numpy(part.real.copy())
    inputs, targets = (torch.from_numpy(ids.copy()) for ids in (part.inputs, part.targets))
    return Micro(inputs, targets, mask, real, part.count)
