"""Compute precision of a model; its weights stay float32. Imports torch when called."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

    from models.decoder import Decoder

Precision = Literal["auto", "float32", "bfloat16"]


def resolve_dtype(precision: Precision, device: str = "cpu") -> torch.dtype:
    """Resolve a precision; ``auto`` is bfloat16 where the device multiplies it natively."""
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
def compute_in(model: Decoder, precision: Precision, device: str = "cpu") -> Iterator[None]:
    """Set the compute dtype of a model within a context.

    Args:
        model: restored afterwards.
        precision: precision of activations.
        device: type of the model's device, ``cpu`` or ``cuda``.
    """
    dtype_before = model.compute
    model.compute = resolve_dtype(precision, device)
    try:
        yield
    finally:
        model.compute = dtype_before
