"""Attention masks: causal, within documents, within a window; dense or as blocks.

Shapes in names: b batch, t new positions, s all positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from models.attention import block_masks

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True)
class VisibleKeys:
    """Keys that the queries of one kind of layer may look at, in one of several forms."""

    mask: Tensor | None = None
    """bool [b or 1, 1, t, s - first]; None: all of the keys, causal where queries are several."""
    first: int = 0
    """Number of the first key that any query sees."""
    blocks: BlockMask | None = None
    """The same for FlexAttention; then ``mask`` is None."""
    bias: Tensor | None = None
    """Additive form of the mask, where the fused passes are taken."""


def document_mask(documents_bt: Tensor) -> Tensor:
    """[b, 1, t, t]: causal, and only within one document of a packed sequence."""
    same = documents_bt[:, None, :, None] == documents_bt[:, None, None, :]
    length = documents_bt.shape[1]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents_bt.device).tril()
    return same & causal


def visible_keys(
    mask: Tensor | None, new: int, past: int, window: int | None, device: torch.device
) -> VisibleKeys:
    """Keys that the last ``new`` of past + new positions see, ``window`` positions at most.

    Args:
        mask: bool [b or 1, 1, t, s], narrowed by the window; None is causal.
        new: positions that queries stand at.
        past: positions before them.
        window: positions that a query sees, its own among them; None is all.
        device: where a mask is made.
    """
    total = past + new
    near = window if window is not None and window < total else None
    first = 0 if near is None else max(0, past + 1 - near)
    if mask is not None and first:
        mask = mask[..., first:]
    if new == 1 or (near is None and (mask is not None or past == 0)):
        return VisibleKeys(mask, first)
    queries = torch.arange(past, total, device=device)[:, None]
    keys = torch.arange(first, total, device=device)
    band = keys <= queries
    if near is not None:
        band &= keys > queries - near
    return VisibleKeys(band[None, None] if mask is None else mask & band, first)


def visible_blocks(
    documents_bt: Tensor | None, size: tuple[int, int], window: int | None, device: torch.device
) -> VisibleKeys:
    """Keys seen in whole sequences, causal within documents, as blocks for FlexAttention.

    Args:
        documents_bt: document numbers; None: one document a row.
        size: (b, t).
        window: positions that a query sees, its own among them; None is all.
        device: where the blocks are made.
    """
    batch, length = size
    near = window if window is not None and window < length else None
    if documents_bt is None and near is None:
        return VisibleKeys()
    return VisibleKeys(
        blocks=block_masks.make_block_mask(documents_bt, near, batch, length, device)
    )
