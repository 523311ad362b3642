"""Settings of threads: their number, and the time that a waiting OpenMP thread spins."""

from __future__ import annotations

import os
from typing import Literal

from components.core.environment import export_variables
from components.core.errors import ConfigError

THREADS_VARIABLE = "MODELMILL_THREADS"
MEASURE_THREADS = "measure"
MAX_THREADS = 1024
Spin = Literal["none", "short", "long"]
"""Time that a waiting OpenMP thread spins on its core before it sleeps."""
SPINS: dict[str, Spin] = {"none": "none", "short": "short", "long": "long"}
SPIN_COUNTS: dict[Spin, str] = {"none": "0", "short": "1000"}
"""GOMP_SPINCOUNT of each setting. 1,000 turns are some tens of microseconds: the time between two
parallel regions of a step, and little of a scheduler's time slice. ``long`` keeps the library's own
default (300,000 turns where it knows of no other programs), which a busy neighbour slows most."""


def thread_count() -> int | None:
    """Number of threads that the user set; None has it measured.

    Apart from ``load_settings``, since a Bento is served where there is no workspace.

    Raises:
        ConfigError: it is neither a number nor ``measure``.
    """
    setting = os.environ.get(THREADS_VARIABLE) or MEASURE_THREADS
    if setting == MEASURE_THREADS:
        return None
    if not setting.isdecimal() or not 1 <= int(setting) <= MAX_THREADS:
        raise ConfigError(
            f"{THREADS_VARIABLE}={setting}: give a number, 1 to {MAX_THREADS}, or {MEASURE_THREADS}"
        )
    return int(setting)


def openmp_threads() -> int | None:
    """Limit that the user's OMP_NUM_THREADS sets; None where it names no number."""
    setting = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(setting) if setting.isdecimal() and int(setting) else None


def spin_setting() -> Spin:
    """Spin setting of the user, ``short`` by default.

    Raises:
        ConfigError: MODELMILL_SPIN is none of the settings.
    """
    setting = os.environ.get("MODELMILL_SPIN") or "short"
    if setting not in SPINS:
        raise ConfigError(f"MODELMILL_SPIN={setting}: give one of {', '.join(SPINS)}")
    return SPINS[setting]


def export_spin() -> None:
    """Export OpenMP's spin count, which it reads once, when torch is imported."""
    export_variables(spin_variables(spin_setting()))


def spin_variables(chosen: Spin) -> dict[str, str]:
    """OpenMP's variables for a spin setting; none where the user has set one."""
    if (
        chosen not in SPIN_COUNTS
        or "GOMP_SPINCOUNT" in os.environ
        or "OMP_WAIT_POLICY" in os.environ
    ):
        return {}
    return {"GOMP_SPINCOUNT": SPIN_COUNTS[chosen]}
