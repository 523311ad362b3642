"""Parts of ``modelmill bench serve`` in order."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from benchmarks.bench_report import BenchFigure, BenchReport, describe_machine
from benchmarks.bench_setting import BenchSetting
from benchmarks.serve import (
    decoding_speed,
    entering_prompts,
    held_schemas,
    open_arrivals,
    shared_prefix,
    soak,
    swap_under_load,
)
from components.core.errors import ConfigError
from components.core.settings import Settings

NAME = "serve"
PARTS: Mapping[str, Callable[[BenchSetting], list[BenchFigure]]] = {
    "speed": decoding_speed.measure_speed,
    "prefix": shared_prefix.measure_shared_prefix,
    "latency": open_arrivals.measure_first_token,
    "overload": open_arrivals.measure_overload,
    "prompts": entering_prompts.measure_entering_prompts,
    "swap": swap_under_load.measure_swaps,
    "schemas": held_schemas.measure_held_schemas,
    "soak": soak.measure_soak,
}
ONLY_BY_NAME = frozenset({"soak"})
"""Parts measured only with ``--only``: they take half an hour."""
SOAK_MINUTES = 30.0


def bench_serve(
    settings: Settings,
    only: Sequence[str],
    repeats: int,
    on_progress: Callable[[str], None],
    minutes: float = SOAK_MINUTES,
) -> BenchReport:
    """Measure the parts of serving, by default all but ``ONLY_BY_NAME``.

    Args:
        settings: where the peers lie.
        only: names of ``PARTS``; empty for the default.
        repeats: measurements of which the median is reported.
        on_progress: called with a line a part.
        minutes: length of the soak.

    Raises:
        ConfigError: there is no such part.
        MillError: a server or the program of a peer failed.
    """
    unknown = sorted(set(only) - PARTS.keys())
    if unknown:
        raise ConfigError(f"bench serve: no part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    machine, figures = describe_machine(), list[BenchFigure]()
    machine["threads"] = 1  # of every engine here, whatever the settings say
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder:
        for name in only or (part for part in PARTS if part not in ONLY_BY_NAME):
            on_progress(name)
            scratch = Path(folder) / name
            scratch.mkdir()
            figures += PARTS[name](BenchSetting(settings, scratch, repeats, on_progress, minutes))
    return BenchReport(NAME, machine, figures)
