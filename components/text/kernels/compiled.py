"""Decorators that compile a kernel once for all processes and runs to come."""

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
    """Compile a function to machine code, cached beside the source where that can be written."""
    compiler = numba.njit(cache=_is_cached(), nogil=True, boundscheck=False)
    return compiler(function)


def compile_without_refcount(function: F) -> F:
    """Compile a function that neither makes nor returns an array, without reference counting.

    Counting is an atomic addition: in a loop over small functions that call each other it took
    longer than they did. numba keeps the option (``_nrt``) to itself.
    """
    compiler: Callable[[F], F] = numba.njit(  # type: ignore[call-overload]
        cache=_is_cached(), nogil=True, boundscheck=False, _nrt=False
    )
    return compiler(function)


@functools.cache
def _is_cached() -> bool:
    """Point numba's cache at a folder named after the sources of all kernels; False if read-only.

    numba itself looks at the file of the compiled function alone, not at what that calls in others.
    """
    if numba.config.BOUNDSCHECK is not None:  # type: ignore[attr-defined]
        return False  # NUMBA_BOUNDSCHECK=1: code with checks never replaces cached code without
    here = Path(__file__).parent
    sources = hashlib.sha256()
    for path in sorted(here.glob("*.py")):
        sources.update(path.read_bytes())
    folder = here / "__pycache__" / f"compiled-{sources.hexdigest()[:16]}"
    if not os.access(folder.parent if folder.parent.exists() else here, os.W_OK):
        return False
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]
    return True
