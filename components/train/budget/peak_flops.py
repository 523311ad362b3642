"""Measured peak rate of matrix products on this machine, the denominator of utilisation (MFU).

Published peaks are not reached by any matrix product, and no table knows a processor that is
shared; so a large product is timed once and journalled with the training.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import torch

from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import canonical_json

PEAK_FLOPS_FILE = "peak_flops.json"
SIDE = {"cpu": 1024, "cuda": 8192}
"""Rows and columns: 2 to 4 GFLOP on a processor, 1.1 TFLOP on a GPU."""
ROUNDS, SECONDS = 10, 0.1
"""Products to time, and seconds after which a slow machine has timed enough of them."""


def measure_peak_flops(scratch: Path, dtype: torch.dtype, device: torch.device) -> float:
    """Operations a second of the quickest of a few large products; a resume takes the journal's.

    Args:
        scratch: folder of the journal.
        dtype: dtype of the factors.
        device: computes the products.
    """
    journal, kind = scratch / PEAK_FLOPS_FILE, f"{device.type}/{dtype}"
    try:
        return float(json.loads(journal.read_bytes())[kind])
    except (OSError, ValueError, KeyError, TypeError):
        pass_seconds = _quickest_product(dtype, device)
    peak = 2.0 * SIDE[device.type] ** 3 / pass_seconds
    write_atomically(journal, canonical_json({kind: peak}))
    return peak


def _quickest_product(dtype: torch.dtype, device: torch.device) -> float:
    side = SIDE[device.type]
    # Ones and not random numbers: no generator of the training is touched.
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best, began = float("inf"), time.perf_counter()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - start)
        if time.perf_counter() - began > SECONDS:
            break
    return best
