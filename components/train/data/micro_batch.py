"""Micro-batches of packed text: the sequences that the model computes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from components.train.data.data_order import TokenBlocks


@dataclass(frozen=True)
class MicroBatch:
    """Inputs and targets [b, t], and the number of real targets.

    ``documents`` [b, t] or ``mask`` [b, 1, t, t] keep documents apart; both are None where causal
    attention is enough. ``real`` [b, t] is None where no position is padding.
    """

    inputs: Tensor
    targets: Tensor
    real: Tensor | None
    count: int
    documents: Tensor | None = None
    mask: Tensor | None = None

    def to(self, device: torch.device) -> MicroBatch:
        """Copy to another device, asynchronously."""
        if device.type == "cpu":
            return self

        def moved(tensor: Tensor) -> Tensor:
            return tensor.pin_memory().to(device, non_blocking=True)

        parts = (self.real, self.documents, self.mask)
        real, documents, mask = (None if part is None else moved(part) for part in parts)
        return MicroBatch(
            moved(self.inputs), moved(self.targets), real, self.count, documents, mask
        )

    def target_weights(self, targets: float) -> Tensor:
        """Weight of each target [b, t] in a mean over ``targets`` of them."""
        weight = torch.full_like(self.targets, 1.0 / targets, dtype=torch.float32)
        return weight if self.real is None else weight * self.real


def split_micro_batches(
    blocks: TokenBlocks, tokens: int, *, masks: bool = True
) -> list[MicroBatch]:
    """Split blocks into micro-batches of at most ``tokens`` tokens and at least one block.

    Everything is made by numpy: torch's threads would compete with those of the present step.

    Args:
        blocks: blocks of one rank and step.
        tokens: number of tokens at once, at most.
        masks: keep documents apart by masks; else by their numbers, which are less to copy to a
            GPU and from which it makes what its kernels take.
    """
    rows = max(1, tokens // blocks.inputs.shape[1])
    parts = (blocks.take_blocks(at, at + rows) for at in range(0, len(blocks.inputs), rows))
    return [_to_micro_batch(part, masks) for part in parts if part.count]


def _to_micro_batch(part: TokenBlocks, masks: bool) -> MicroBatch:
    numbers, documents, mask = part.documents, None, None
    if (numbers[:, 1:] != numbers[:, :1]).any():  # some row holds more than one document
        if masks:
            same = numbers[:, None, :, None] == numbers[:, None, None, :]
            mask = torch.from_numpy(same & np.tri(numbers.shape[1], dtype=np.bool_))
        else:
            documents = torch.from_numpy(numbers.copy())
    real = None if part.real is None else torch.from_numpy(part.real.copy())
    inputs, targets = (torch.from_numpy(ids.copy()) for ids in (part.inputs, part.targets))
    return MicroBatch(inputs, targets, real, part.count, documents, mask)
