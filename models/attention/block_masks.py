"""FlexAttention: document and window masks as blocks, of which the empty ones are skipped.

It pays off on a GPU alone, and there for sequences of many blocks; plain causal attention is left
to SDPA. On a CPU it runs eagerly and gives the same numbers, which is how it is tested.

Shapes in names: b batch, t positions, h heads, k kv heads, d head width.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

LEAST_LENGTH = 512
"""Four blocks of 128 a side: below, a dense mask costs less than finding the empty blocks."""
_LEAST_WIDTH = 16
"""Head width below which FlexAttention's kernel does not compile."""


def pays_off(device: torch.device, kind: torch.dtype, length: int, head_width: int) -> bool:
    """True where masked attention is faster through FlexAttention.

    That is on a GPU in half precision, where its kernel can be compiled.

    Args:
        device: device of the tensors.
        kind: their dtype.
        length: length of the sequences.
        head_width: d.
    """
    worth = device.type == "cuda" and kind in (torch.bfloat16, torch.float16)
    if not worth or length < LEAST_LENGTH or head_width < _LEAST_WIDTH:
        return False
    return _kernel_works(device, kind, head_width)


@functools.cache
def _kernel_works(device: torch.device, kind: torch.dtype, head_width: int) -> bool:
    """True where the kernel compiles and runs forward and backward; warns where it does not."""
    try:
        x = torch.zeros(1, 1, 128, head_width, device=device, dtype=kind, requires_grad=True)
        flex_attend(x, x, x, make_block_mask(None, 64, 1, 128, device), None).sum().backward()  # type: ignore[no-untyped-call]
    except (ImportError, NotImplementedError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        warnings.warn(f"SDPA is used, FlexAttention does not run here: {reason}", stacklevel=2)
        return False
    return True


def make_block_mask(
    documents_bt: Tensor | None, window: int | None, batch: int, length: int, device: torch.device
) -> BlockMask:
    """Block mask that is causal, within one document, and within a window.

    Args:
        documents_bt: document numbers; None: one document a row.
        window: positions that a query sees, its own among them; None is all.
        batch: b.
        length: t.
        device: where the mask is made.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def may_see(row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        allowed = query >= key
        if window is not None:
            allowed = allowed & (query - key < window)
        if documents_bt is not None:
            allowed = allowed & (documents_bt[row, query] == documents_bt[row, key])
        return allowed

    rows = None if documents_bt is None else batch
    return create_block_mask(may_see, rows, None, length, length, device=str(device))


def flex_attend(
    q_bhtd: Tensor, k_bktd: Tensor, v_bktd: Tensor, mask: BlockMask, cap: float | None
) -> Tensor:
    """Softmax attention [b, h, t, d] over the blocks of a mask.

    Args:
        q_bhtd: queries.
        k_bktd: keys.
        v_bktd: values.
        mask: blocks to compute.
        cap: smooth bound of the scores; None leaves them.
    """

    def capped(score: Tensor, *_place: Tensor) -> Tensor:
        assert cap is not None
        return cap * torch.tanh(score / cap)

    out: Tensor = _kernel(q_bhtd.is_cuda)(
        q_bhtd,
        k_bktd,
        v_bktd,
        score_mod=None if cap is None else capped,
        block_mask=mask,
        enable_gqa=q_bhtd.shape[1] != k_bktd.shape[1],
    )
    return out


@functools.cache
def _kernel(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    plain: Any = flex_attention
    kernel: Callable[..., Any] = torch.compile(plain) if compiled else plain
    return kernel
