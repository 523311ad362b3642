"""Ranks as workers of Ray Train, on whatever machines its cluster has. Needs the extra ``ray``.

Ray sets the same environment as torchrun does; the workers must see the store's folder.
"""

from __future__ import annotations

from pathlib import Path

import ray.exceptions
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from components.core.errors import MillError


def fit(path: Path, ranks: int) -> None:
    """Train what the muster at ``path`` says on ``ranks`` workers.

    Raises:
        MillError: a worker failed; names its error.
    """
    gpu = torch.cuda.is_available()
    trainer = TorchTrainer(
        _work,
        train_loop_config={"muster": str(path)},
        scaling_config=ScalingConfig(num_workers=ranks, use_gpu=gpu),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpu else "gloo"),
        run_config=RunConfig(storage_path=str(path.parent / "ray")),
    )
    try:
        trainer.fit()
    except (ray.exceptions.RayError, RuntimeError) as error:
        line = " ".join(str(error).split())[-300:]
        raise MillError(f"Ray Train: a worker failed: {line}") from error


def _work(given: dict[str, str]) -> None:
    from components.core.progress import Progress
    from components.train.distributed.launch_ranks import serve

    serve(Path(given["muster"]), Progress())
