"""The parts in their order, on one core."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.bench.curate import (
    chain,
    codeblocks,
    contamination,
    credentials,
    extraction,
    language,
    pii,
    quality,
    scale,
    signatures,
    statistics,
    twins,
)
from flows.bench.curate.setting import Setting
from flows.bench.figures import Bench, Measured, machine

NAME = "curate"
PARTS: Mapping[str, Callable[[Setting], list[Measured]]] = {
    "extraction": extraction.measure,
    "code": codeblocks.measure,
    "statistics": statistics.measure,
    "signatures": signatures.measure,
    "twins": twins.measure,
    "scale": scale.measure,
    "pii": pii.measure,
    "secrets": credentials.measure,
    "quality": quality.measure,
    "language": language.measure,
    "contamination": contamination.measure,
    "chain": chain.measure,
}


def bench_curate(
    settings: Settings, only: Sequence[str], repeats: int, tell: Callable[[str], None]
) -> Bench:
    """Measure all parts, or ``only`` some.

    Raises:
        ConfigError: there is no such part.
        MillError: a peer's program failed.
    """
    unknown = sorted(set(only) - PARTS.keys())
    if unknown:
        raise ConfigError(f"bench curate: no part {', '.join(unknown)}; parts: {', '.join(PARTS)}")
    described, figures = machine(), list[Measured]()
    with tempfile.TemporaryDirectory(prefix="modelmill-bench-") as folder, _one_core():
        for name in only or PARTS:
            tell(name)
            scratch = Path(folder) / name
            scratch.mkdir()
            figures += PARTS[name](Setting(settings, scratch, repeats, tell))
    return Bench(NAME, described, figures)


@contextmanager
def _one_core() -> Iterator[None]:
    """This process and what it starts, on one core; where the system cannot, on all."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
