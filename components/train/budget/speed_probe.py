"""Speed probe: a few seconds of real training steps, for plans on a machine that never trained.

    python -m components.train.budget.speed_probe

Set-up ends with it. Steps of two sizes take turns, at rate 0; ``components/core/training_speed.py``
says where the figures go and what they are used for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from components.core.process.thread_search import (
    fewest_fast_threads,
    thread_counts_to_try,
    thread_limit,
    time_thread_counts,
)
from components.core.process.thread_tuning import set_torch_threads
from components.core.thread_settings import export_spin, thread_count
from components.core.training_speed import AT_SETUP, TrainingSpeed, record_speed, setup_speed_file
from components.train.budget.flop_count import flops_per_token
from components.train.device import DeviceChoice, resolve_device
from models.precision import Precision
from models.shape import DecoderShape
from models.shape_presets import NANO, TINY

if TYPE_CHECKING:
    from torch import Tensor

STEP_TOKENS = 2048
"""Tokens of a step, as in the presets."""
SEQUENCE_LENGTH = 512
PROBE_SECONDS = 3.0
LEAST_ROUNDS = 3
PATIENCE = 4.0
"""Multiple of the requested seconds after which a busy machine is no longer waited for."""


def make_training_step(
    shape: DecoderShape,
    sequence_length: int,
    precision: Precision,
    device: DeviceChoice = "cpu",
    tokens: int = STEP_TOKENS,
) -> Callable[[], None]:
    """A whole step of a random model (forward, backward, optimiser) at rate 0, as a function.

    Args:
        shape: shape of the model.
        sequence_length: tokens of a sequence, at most.
        precision: dtype of activations.
        device: computes the step.
        tokens: tokens of a step, in whole sequences.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    import torch

    from components.train.budget.memory_reuse import keep_freed_memory
    from components.train.trainer.optimizer import Optimiser
    from components.train.training_config import OptimConfig
    from models.decoder import Decoder
    from models.precision import resolve_dtype

    keep_freed_memory()
    torch_device = resolve_device(device)
    rng_state = torch.get_rng_state()
    model = Decoder(shape).to(torch_device)
    model.compute = resolve_dtype(precision, torch_device.type)
    optimiser = Optimiser(model, OptimConfig())
    length = min(sequence_length, shape.context, tokens)
    ids = torch.randint(shape.vocabulary, (tokens // length, length + 1)).to(torch_device)
    torch.set_rng_state(rng_state)
    share = torch.full(ids[:, 1:].shape, 1.0 / tokens, device=torch_device)

    def step() -> None:
        loss: Tensor = model.loss(model.hidden(ids[:, :-1]), ids[:, 1:], share)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.clip()
        optimiser.step(0.0)
        optimiser.zero_grad()
        if torch_device.type == "cuda":
            torch.cuda.synchronize(torch_device)

    return step


def measure_speeds(
    shapes: Sequence[DecoderShape],
    *,
    seconds: float = PROBE_SECONDS,
    precision: Precision = "auto",
    device: DeviceChoice = "auto",
    source: str = AT_SETUP,
) -> list[TrainingSpeed]:
    """Measure the training speed of each of ``shapes``, for about ``seconds`` in all.

    Sizes take turns, so that a busy moment hits all, on the number of threads that is quickest
    now, as trainings choose theirs. The quickest step counts: the others say how busy the machine
    is at present, which the next training measures for itself.

    Args:
        shapes: models to time; the last chooses the number of threads.
        seconds: seconds of all steps together, about.
        precision: dtype of activations.
        device: computes the steps.
        source: recorded with each speed.

    Raises:
        ConfigError: a GPU is asked for and there is none.
    """
    steps = [make_training_step(shape, SEQUENCE_LENGTH, precision, device) for shape in shapes]
    durations: list[list[float]] = [[] for _ in shapes]
    with quickest_threads(steps[-1]):
        began = time.perf_counter()
        while _needs_more_rounds(len(durations[-1]), time.perf_counter() - began, seconds):
            for step, times in zip(steps, durations, strict=True):
                start = time.perf_counter()
                step()
                times.append(time.perf_counter() - start)
    measured = []
    for shape, times in zip(shapes, durations, strict=True):
        length = min(SEQUENCE_LENGTH, shape.context)
        operations = STEP_TOKENS // length * length * flops_per_token(shape, length)
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
    """Compute on the number of threads that ``trial`` is quickest on, or that the settings fix."""
    import torch

    threads_before = torch.get_num_threads()
    counts = thread_counts_to_try(thread_limit())
    set_torch_threads(
        thread_count() or fewest_fast_threads(time_thread_counts(trial, counts, set_torch_threads))
    )
    try:
        yield
    finally:
        set_torch_threads(threads_before)


def _needs_more_rounds(rounds: int, spent: float, seconds: float) -> bool:
    """True while there is time left, or while there are too few rounds to go by."""
    if rounds < 2:  # the first step allocates
        return True
    return spent < seconds if rounds > LEAST_ROUNDS else spent < PATIENCE * seconds


def main(file: Path | None = None) -> None:
    """Measure the presets' speeds, record them and print them."""
    export_spin()  # as in every run; before torch is imported
    place = file or setup_speed_file()
    for speed in measure_speeds((NANO, TINY)):
        record_speed(place, speed)
        print(
            f"training speed here: {speed.operations_per_second / 1e9:.0f} GFLOP/s at "
            f"{speed.parameters / 1e6:.1f} M parameters"
        )


if __name__ == "__main__":
    main()
