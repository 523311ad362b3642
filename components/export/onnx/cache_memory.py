"""Memory of a KV cache: bytes that it takes, and the longest context that there is memory for."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from components.core.errors import ConfigError
from components.core.process.usable_memory import usable_memory

CACHE_SHARE = 0.8
"""Of the memory that is free, for the cache; the rest is for logits, prompts and answers."""


class CachedShape(Protocol):
    """Sizes of a model's cache."""

    context: int
    kv_heads: int
    head_width: int
    past: list[str]
    cache_kind: np.dtype[Any]


def position_bytes(model: CachedShape) -> int:
    """Bytes of one token's keys and values in all layers."""
    return len(model.past) * model.kv_heads * model.head_width * model.cache_kind.itemsize


def check_cache_memory(model: CachedShape, slots: int, context: int) -> None:
    """Refuse a cache that the memory does not hold.

    Args:
        model: sizes of a position.
        slots: rows.
        context: tokens of a row.

    Raises:
        ConfigError: the context is longer than the model's, or too long for the memory.
    """
    if context > model.context:
        raise ConfigError(
            f"a context of {context} tokens is longer than the model's {model.context}: ask for "
            f"{model.context} at most"
        )
    needed = slots * (context + 1) * position_bytes(model)
    there = usable_memory()
    if needed > CACHE_SHARE * there:
        raise ConfigError(
            f"{slots} slots with a context of {context} tokens need {needed / 1e9:.3g} GB for keys "
            f"and values; of {there / 1e9:.3g} GB that are free they may take "
            f"{CACHE_SHARE * there / 1e9:.3g}: ask for fewer slots or a shorter context"
        )


def longest_context(model: CachedShape, slots: int) -> int:
    """The model's context, or as much of it as the memory holds for so many slots.

    Raises:
        ConfigError: the memory does not even hold a token and its answer.
    """
    positions = int(CACHE_SHARE * usable_memory() / (slots * position_bytes(model)))
    context = min(model.context, positions - 1)  # a batch has one position to spare
    if context < 2:
        check_cache_memory(model, slots, 2)
    return context
