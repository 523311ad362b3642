"""De-duplication of a million documents: peak memory, and the exponent of time from 10,000 on.

Each size runs in a process of its own, so that peak memory is that of one run. Documents are of
random words; one in ten is an edited copy of an earlier one.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.peer_programs import bench_environment, run_program

SIZES = (10_000, 100_000, 1_000_000)
MAX_MEMORY_GB, MAX_EXPONENT = 4.0, 1.1


def measure_scale(setting: BenchSetting) -> list[BenchFigure]:
    """Peak memory at the largest size, exponent of time over size, documents a second."""
    timings = []
    for size in SIZES:
        setting.on_progress(f"scale: {size:,} documents")
        folder = setting.scratch / str(size)
        program = str(Path(__file__).with_name("dedup_program.py"))
        for step in ("make", "score"):
            _, output = run_program(
                [sys.executable, program, step, str(folder), str(size)], bench_environment()
            )
        timings.append(json.loads(output.strip().splitlines()[-1]))
    largest, smallest = timings[-1], timings[0]
    exponent = math.log(largest["seconds"] / smallest["seconds"]) / math.log(SIZES[-1] / SIZES[0])
    rates = ", ".join(f"{s:,}: {t['seconds']:.1f} s" for s, t in zip(SIZES, timings, strict=True))
    name = f"{SIZES[-1]:,} documents de-duplicated"
    gigabytes = largest["bytes"] / 1e9
    return [
        BenchFigure.against_target(f"{name}: memory", gigabytes, "GB", MAX_MEMORY_GB),
        BenchFigure.against_target(
            f"{name}: growth of time, n to the power of",
            exponent,
            "",
            MAX_EXPONENT,
            note=f"({rates})",
        ),
        BenchFigure(
            f"{name}: documents a second",
            SIZES[-1] / largest["seconds"],
            "/s/core",
            better="higher",
        ),
    ]
