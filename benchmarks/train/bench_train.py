"""Parts of ``modelmill bench train`` in order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.bench_report import BenchFigure, BenchReport, describe_machine
from benchmarks.bench_setting import BenchSetting
from benchmarks.train import (
    batch_splits,
    charlm,
    documentation_loss,
    gpu_utilisation,
    step_growth,
    trainer_speed,
)
from components.core.errors import ConfigError
from components.core.settings import Settings

NAME = "train"
PARTS: Mapping[str, Callable[[BenchSetting], list[BenchFigure]]] = {
    "charlm": charlm.measure_time_to_loss,
    "free": charlm.measure_loss_in_budget,
    "trainer": trainer_speed.measure_trainer,
    "splits": batch_splits.measure_splits,
    "growth": step_growth.measure_growth,
    "gpu": gpu_utilisation.measure_gpu,
    "documentation": documentation_loss.measure_documentation,
}
ONLY_BY_NAME = frozenset({"documentation"})
"""Parts measured only with ``--only``: they take half an hour."""


def bench_train(
    settings: Settings, only: Sequence[str], repeats: int, on_progress: Callable[[str], None]
) -> BenchReport:
    """Measure the parts of training, by default all but ``ONLY_BY_NAME``.

    Args:
        settings: the workspace, and where reference data and peers lie.
        only: names of ``PARTS``; empty for the default.
        repeats: measurements of which the median is reported.
        on_progress: called with a line a part.

    Raises:
        ConfigError: there is no such part.
        MillError: the program of a peer failed.
    """
    unknown = sorted(set(only) - PARTS.keys())
    if unknown:
        raise ConfigError(f"bench train: no part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    machine, figures = describe_machine(), list[BenchFigure]()
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder:
        for name in only or (part for part in PARTS if part not in ONLY_BY_NAME):
            on_progress(name)
            scratch = Path(folder) / name
            scratch.mkdir()
            figures += PARTS[name](BenchSetting(settings, scratch, repeats, on_progress))
    return BenchReport(NAME, machine, figures)
