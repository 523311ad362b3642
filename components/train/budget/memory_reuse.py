"""Keep freed memory for the next step instead of handing it back to the system.

A training step allocates and frees the same large tensors again and again; glibc maps each one
afresh and zeroes its pages, which cost a sixth of a step. Behind a stage it is handed back. Where
there is no glibc, nothing happens.
"""

from __future__ import annotations

import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
_LARGEST = 1 << 30


def keep_freed_memory() -> bool:
    """Tell the allocator of this process; whether it listened."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    told = (
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST),
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST),
        libc.mallopt(_M_TOP_PAD, 1 << 26),
    )
    return all(told)


def hand_back_memory() -> bool:
    """Give freed memory to the system, between stages and between rollouts; whether there was any.

    What one stage freed in small pieces is of little use to the next, which cuts it otherwise.
    """
    libc = ctypes.CDLL(None)
    return bool(libc.malloc_trim(0)) if hasattr(libc, "malloc_trim") else False
