"""Launcher of ranks as workers of Ray Train. Needs the extra ``ray``.

Ray sets the same environment as torchrun does; its workers, on whatever machines the cluster has,
must see the store's folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ray.exceptions
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from components.core.errors import MillError, error_line


def train_on_ray(run: Callable[[], None], ranks: int, storage: Path) -> None:
    """Call ``run`` on ``ranks`` workers and wait for all of them.

    Args:
        run: all that a rank does; Ray pickles it.
        ranks: number of workers, each with a GPU where there is one.
        storage: folder for Ray's own records, which all workers see.

    Raises:
        MillError: a worker failed; names its error.
    """
    gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        run,
        scaling_config=ScalingConfig(num_workers=ranks, use_gpu=gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        run_config=RunConfig(storage_path=str(storage)),
    )
    try:
        trainer.fit()
    except (ray.exceptions.RayError, RuntimeError) as error:
        line = error_line(error)[-300:]
        raise MillError(f"Ray Train: a worker failed: {line}") from error
