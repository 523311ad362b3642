"""A step that does not fit into memory: known by its error, and which one would fit."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch

_SIGNS = ("can't allocate memory", "out of memory", "not enough memory", "cannot allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is torch's or Python's way to say that memory is exhausted."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)


def largest_that_fits(step: Callable[[int], None], tokens: int, least: int) -> int | None:
    """The first of tokens / 2, tokens / 4 ... down to ``least`` that ``step`` gets through with.

    None where not even ``least`` does. ``step`` must leave nothing behind.
    """
    while tokens > least:
        tokens = max(least, tokens // 2)
        release()
        try:
            step(tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            continue
        return tokens
    return None


def release() -> None:
    """Give back what a failed step still holds."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
