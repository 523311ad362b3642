"""``torch.compile`` of a decoder's layers, kept only where it is measured to be quicker.

On two cores it gave nothing; on a GPU it fuses norms, rotary positions and SwiGLU. Layers are
compiled in place, so names and weights stay as they are, and one graph serves all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

import torch
from torch import nn

from components.core.log import get_logger

log = get_logger(__name__)
WARM_UPS, ROUNDS = 3, 5
WORTHWHILE_RATIO = 0.97
"""Fraction of the eager time that a compiled step must stay below, else the compiler's seconds
would not pay for themselves."""


def compile_layers(layers: Iterable[nn.Module], backend: str = "inductor") -> None:
    """Compile each layer in place."""
    for layer in layers:
        layer.compile(backend=backend, dynamic=False)


def undo_compile(layers: Iterable[nn.Module]) -> None:
    """Undo ``compile_layers``."""
    for layer in layers:
        layer._compiled_call_impl = None


def compile_if_quicker(
    layers: Iterable[nn.Module], step: Callable[[], None], backend: str = "inductor"
) -> bool:
    """Time ``step`` eager and compiled and keep the quicker; True where that is compiled.

    A compiler that fails leaves the layers eager, with a warning.

    Args:
        layers: compiled in place.
        step: one training step over these layers.
        backend: backend of ``torch.compile``.
    """
    layer_list = list(layers)
    eager = _seconds(step)
    compile_layers(layer_list, backend)
    try:
        compiled = _seconds(step)
    except Exception as error:  # a missing C compiler, an operation it does not know
        log.warning("torch.compile failed, layers stay eager: %s", str(error).partition("\n")[0])
        undo_compile(layer_list)
        return False
    if compiled < WORTHWHILE_RATIO * eager:
        return True
    undo_compile(layer_list)
    return False


def _seconds(step: Callable[[], None]) -> float:
    for _ in range(WARM_UPS):
        step()
    _wait()
    start = time.perf_counter()
    for _ in range(ROUNDS):
        step()
    _wait()
    return (time.perf_counter() - start) / ROUNDS


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
