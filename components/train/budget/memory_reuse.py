"""Allocator settings that keep freed memory for the next step.

A training step allocates and frees the same large tensors again and again; glibc maps each one
afresh and zeroes its pages, which cost a sixth of a step. After a stage it is returned. Without
glibc nothing happens.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_MAPPED_FROM = 1 << 30
"""Bytes from which an allocation is mapped, and from which free memory at the heap's end is
returned: 1 GB, so that the tensors of a step stay on the heap."""


def keep_freed_memory() -> bool:
    """Set glibc's thresholds for this process; False where it does not take them."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    accepted = (
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM),
        libc.mallopt(_M_TRIM_THRESHOLD, _MAPPED_FROM),
        libc.mallopt(_M_TOP_PAD, 1 << 26),  # grow the heap by 64 MB at once
    )
    return all(accepted)


def return_freed_memory() -> bool:
    """Return freed memory to the system, between stages and rollouts; False where there was none.

    Small pieces that one stage freed are of little use to the next, which allocates other sizes.
    """
    libc = ctypes.CDLL(None)
    return bool(libc.malloc_trim(0)) if hasattr(libc, "malloc_trim") else False
