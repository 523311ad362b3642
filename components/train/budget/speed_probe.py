"""A few seconds of real training steps: how quick this machine trains, before it ever has.

    python -m components.train.budget.speed_probe

Set-up ends with it. Steps of two sizes in turn, at rate 0; ``components/core/training_speed.py``
says where the figures go and what they are good for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.process.thread_search import (
    counts_to_try,
    fewest_quick,
    thread_limit,
    time_counts,
)
from components.core.process.thread_tuning import use_threads
from components.core.settings import export_spin, thread_count
from components.core.training_speed import AT_SETUP, TrainingSpeed, renew_speed, setup_file
from components.train.budget.flop_count import flops_per_token
from components.train.device import Device, device_of
from models.precision import Precision
from models.shape import DecoderShape
from models.shape_presets import NANO, TINY

if TYPE_CHECKING:
    from torch import Tensor

TOKENS = 2048
"""A step's: so many as a step of the presets."""
POSITIONS = 512
SECONDS = 3.0
LEAST_ROUNDS = 3
PATIENCE = 4.0
"""Times the seconds asked for, after which a busy machine has been waited for long enough."""


def training_step(
    shape: DecoderShape,
    positions: int,
    precision: Precision,
    device: Device = "cpu",
    tokens: int = TOKENS,
) -> Callable[[], None]:
    """A whole step of a random model (forward, backward, optimiser), ready to be called often.

    Args:
        positions: tokens of a block, at most.
        precision: dtype of activations.
        device: where to compute.
        tokens: of a step, in whole blocks.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    import torch

    from components.train.budget.memory_reuse import keep_freed_memory
    from components.train.trainer.optimizer import Optimiser
    from components.train.training_config import OptimConfig
    from models.decoder import Decoder
    from models.precision import dtype_of

    keep_freed_memory()
    place = device_of(device)
    before = torch.get_rng_state()
    model = Decoder(shape).to(place)
    model.compute = dtype_of(precision, place.type)
    optimiser = Optimiser(model, OptimConfig())
    length = min(positions, shape.context, tokens)
    ids = torch.randint(shape.vocabulary, (tokens // length, length + 1)).to(place)
    torch.set_rng_state(before)
    share = torch.full(ids[:, 1:].shape, 1.0 / tokens, device=place)

    def step() -> None:
        loss: Tensor = model.loss(model.hidden(ids[:, :-1]), ids[:, 1:], share)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.clip()
        optimiser.step(0.0)
        optimiser.zero_grad()
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return step


def measure_speeds(
    shapes: Sequence[DecoderShape],
    *,
    seconds: float = SECONDS,
    precision: Precision = "auto",
    device: Device = "auto",
    source: str = AT_SETUP,
) -> list[TrainingSpeed]:
    """The speed of training each of ``shapes``, for about ``seconds`` in all.

    Sizes take turns, so that a busy moment hits all, on the number of threads that is quickest
    now, as trainings choose theirs. The quickest step counts: beside other programs the others say
    how busy it is now, and the next training says that of its own time.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    steps = [training_step(shape, POSITIONS, precision, device) for shape in shapes]
    took: list[list[float]] = [[] for _ in shapes]
    with quickest_threads(steps[-1]):
        began = time.perf_counter()
        while _is_short(len(took[-1]), time.perf_counter() - began, seconds):
            for step, times in zip(steps, took, strict=True):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
    measured = []
    for shape, times in zip(shapes, took, strict=True):
        length = min(POSITIONS, shape.context)
        operations = TOKENS // length * length * flops_per_token(shape, length)
        rate = operations / min(times)
        measured.append(
            TrainingSpeed(
                parameters=shape.parameters,
                operations_per_second=rate,
                device=device,
                precision=precision,
                source=source,
            )
        )
    return measured


@contextmanager
def quickest_threads(trial: Callable[[], None]) -> Iterator[None]:
    """Compute on the number of threads that a trial is quickest on, or that is set."""
    import torch

    before = torch.get_num_threads()
    counts = counts_to_try(thread_limit())
    use_threads(thread_count() or fewest_quick(time_counts(trial, counts, use_threads)))
    try:
        yield
    finally:
        use_threads(before)


def _is_short(rounds: int, spent: float, seconds: float) -> bool:
    """Whether another round is worth its time."""
    if rounds < 2:  # the first step allocates
        return True
    return spent < seconds if rounds > LEAST_ROUNDS else spent < PATIENCE * seconds


def main(file: Path | None = None) -> None:
    """Measure, write down, and say what was measured."""
    export_spin()  # as in every run; before torch is imported
    place = file or setup_file()
    for speed in measure_speeds((NANO, TINY)):
        renew_speed(place, speed)
        print(
            f"training speed here: {speed.operations_per_second / 1e9:.0f} GFLOP/s at "
            f"{speed.parameters / 1e6:.1f} M parameters"
        )


if __name__ == "__main__":
    main()
