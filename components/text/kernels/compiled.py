"""Compiles a kernel once for all processes and runs to come."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])


def compile_kernel(function: F) -> F:
    """``function`` as machine code; kept beside the source where that can be written."""
    return numba.njit(cache=_caches_machine_code(), nogil=True, boundscheck=False)(function)


def compile_without_refcount(function: F) -> F:
    """The same for what makes and returns no array: none is counted, which atomic sums do.

    In a loop over small steps that call each other counting took longer than the steps.
    """
    return numba.njit(cache=_caches_machine_code(), nogil=True, boundscheck=False, _nrt=False)(function)  # type: ignore[call-overload]


@functools.cache
def _caches_machine_code() -> bool:
    """Whether compiled code is kept. Its folder is named after all kernels' sources.

    numba looks at the file of the compiled function alone, not at what that calls in others.
    """
    if numba.config.BOUNDSCHECK is not None:  # type: ignore[attr-defined]
        return False  # NUMBA_BOUNDSCHECK=1: what is checked is not kept in place of what is not
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for path in sorted(here.glob("*.py")):
        sources.update(path.read_bytes())
    folder = here / "__pycache__" / f"compiled-{sources.hexdigest()[:16]}"
    if not os.access(folder.parent if folder.parent.exists() else here, os.W_OK):
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True
