"""Out-of-memory handling: recognise the error, and search for a micro-batch that fits."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

_OOM_MESSAGES = (
    "can't allocate memory",
    "out of memory",
    "not enough memory",
    "cannot allocate memory",
)


def is_out_of_memory(error: BaseException) -> bool:
    """True where an error of torch or Python says that memory is exhausted."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in _OOM_MESSAGES
    )


def find_fitting_size(step: Callable[[int], None], tokens: int, least: int) -> int | None:
    """First of tokens / 2, tokens / 4 ... down to ``least`` that fits; None where none does.

    Args:
        step: tries a number of tokens, and leaves nothing behind.
        tokens: that did not fit.
        least: tried last.
    """
    while tokens > least:
        tokens = max(least, tokens // 2)
        release_memory()
        try:
            step(tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return tokens
    return None


def release_memory() -> None:
    """Free the memory that a failed step still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
