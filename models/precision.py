"""In which dtype a model computes; its weights stay float32. Torch is imported when asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from models.decoder import Decoder

Precision = Literal["auto", "float32", "bfloat16"]


def dtype_of(precision: Precision, device: str = "cpu") -> torch.dtype:
    """bfloat16 or float32; ``auto`` is bfloat16 where the device multiplies it natively."""
    import torch

    if precision == "auto":
        native: bool = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device == "cuda"
            else torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


@contextmanager
def computing(model: Decoder, precision: Precision, device: str = "cpu") -> Iterator[None]:
    """Let ``model`` compute in the dtype of ``precision`` for a while."""
    before = model.compute
    model.compute = dtype_of(precision, device)
    try:
        yield
    finally:
        model.compute = before
