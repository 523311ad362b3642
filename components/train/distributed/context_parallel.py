"""Context parallelism: each rank computes its own positions of a sequence and sees all keys.

Keys and values of a layer are gathered from all ranks before attention, and their gradients
summed back (as for Llama 3, arXiv:2407.21783, section 3.3.2): document masks need nothing
special, and the memory for activations falls with the number of ranks.

Shapes in names: b batch, t own positions, s all positions, k kv heads, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from models.attention.attention_masks import document_mask
from models.decoder import Cache, Decoder


def split_sequence(model: Decoder, group: dist.ProcessGroup, rank: int, ranks: int) -> None:
    """Patch ``hidden`` and ``loss`` to take whole sequences and compute this rank's positions.

    ``hidden`` gives [b, t, c], and ``loss`` this rank's part of the sum.

    Args:
        model: patched in place.
        group: ranks that share the sequences.
        rank: rank of this process in the group.
        ranks: size of the group; must divide the sequence length.
    """
    hidden, loss = model.hidden, model.loss

    def own(length: int) -> slice:
        return slice(rank * length // ranks, (rank + 1) * length // ranks)

    def own_hidden(
        ids_bs: Tensor, *, mask: Tensor | None = None, documents_bt: Tensor | None = None
    ) -> Tensor:
        length = ids_bs.shape[1]
        own_positions = own(length)
        if documents_bt is not None:
            mask = document_mask(documents_bt)
        if mask is None:
            mask = torch.ones(length, length, dtype=torch.bool, device=ids_bs.device).tril()
            mask = mask[None, None]
        positions_bs = torch.arange(length, device=ids_bs.device).expand_as(ids_bs)
        return hidden(
            ids_bs[:, own_positions],
            positions_bt=positions_bs[:, own_positions],
            mask=mask[:, :, own_positions],
            cache=_GatheredKeys(group),
        )

    def own_loss(hidden_btc: Tensor, targets_bs: Tensor, share_bs: Tensor) -> Tensor:
        own_positions = own(targets_bs.shape[1])
        return loss(
            hidden_btc,
            targets_bs[:, own_positions].contiguous(),
            share_bs[:, own_positions].contiguous(),
        )

    for name, method in (("hidden", own_hidden), ("loss", own_loss)):
        setattr(model, name, method)


class _GatheredKeys(Cache):
    """Stand-in for a cache: keys and values of other positions come from the other ranks."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self.group, self.length = group, 0

    def extend(self, layer: int, k_bktd: Tensor, v_bktd: Tensor) -> tuple[Tensor, Tensor]:
        both = torch.stack((k_bktd, v_bktd))
        gathered: Tensor = _GatherPositions.apply(both, self.group)  # type: ignore[no-untyped-call]
        k_bksd, v_bksd = gathered.unbind()
        return k_bksd, v_bksd


class _GatherPositions(torch.autograd.Function):
    """[2, b, k, t, d] of every rank -> [2, b, k, s, d]; the gradient is summed over the ranks."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, group: dist.ProcessGroup) -> Tensor:
        ctx.group = group
        first = own.movedim(3, 0).contiguous()
        everything = first.new_empty(first.shape[0] * group.size(), *first.shape[1:])
        dist.all_gather_single(everything, first, group=group)
        return everything.movedim(0, 3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        everything = gradient.movedim(3, 0).contiguous()
        own = everything.new_empty(everything.shape[0] // ctx.group.size(), *everything.shape[1:])
        dist.reduce_scatter_single(own, everything, group=ctx.group)
        return own.movedim(0, 3), None
