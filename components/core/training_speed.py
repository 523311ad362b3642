"""Training speed of this machine: measured at set-up, renewed by every training.

A speed is floating-point operations a second of whole training steps (forward, backward,
optimiser), for a model of some size: small matrices reach a fraction of what large ones do. Set-up
writes beside the interpreter (``components/train/budget/speed_probe.py``), so that the first plan
of a fresh workspace finds it; trainings write into their workspace. Speeds of another processor, or
of another number of cores, are passed over.
"""

from __future__ import annotations

import json
import math
import platform
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.io.atomic_write import write_atomically
from components.core.io.locks import hold_lock
from components.core.log import get_logger
from components.core.process.usable_cores import usable_cores
from components.core.store.artifact import canonical_json

log = get_logger(__name__)
AT_SETUP = "set-up"
MAX_SPEEDS = 64
"""Speeds in one file; the oldest are dropped."""


@cache
def processor_name() -> str:
    """Name of the processor."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"


def machine_name() -> str:
    """Processor and usable cores, for which a measured speed holds."""
    return f"{processor_name()}, {usable_cores()} cores"


class TrainingSpeed(BaseModel):
    """The measured speed of training a model of one size."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    parameters: int = Field(gt=0, description="number of parameters of the model")
    operations_per_second: float = Field(gt=0, description="6 N + 12 L H Q T a token, measured")
    device: str = Field(default="auto", description="setting of the config, which may be auto")
    precision: str = Field(default="auto", description="setting of the config, which may be auto")
    source: str = Field(default=AT_SETUP, description="set-up, or the stage that trained")
    machine: str = Field(default_factory=machine_name, description="machine of the measurement")

    @property
    def setting(self) -> tuple[str, str, str, int]:
        """Identity of a speed: the newer of two equal ones replaces the older."""
        return self.machine, self.device, self.precision, self.parameters


class MeasuredSpeeds:
    """Speeds measured on this machine, newest first."""

    def __init__(self, known: Sequence[TrainingSpeed] = ()) -> None:
        self.known = tuple(known)

    def __bool__(self) -> bool:
        return bool(self.known)

    def interpolate_speed(
        self, parameters: int, device: str = "auto", precision: str = "auto"
    ) -> float | None:
        """Expected operations a second for a model size; None where nothing was measured.

        Interpolated log-log between two measured sizes; outside them, that of the nearest. Where
        nothing was measured on ``device`` in ``precision``, speeds of others stand in.

        Args:
            parameters: parameters of the model.
            device: device, as the config asks for it.
            precision: precision, as the config asks for it.
        """
        alike = [s for s in self.known if (s.device, s.precision) == (device, precision)]
        newest: dict[int, float] = {}
        for speed in alike or self.known:
            newest.setdefault(speed.parameters, speed.operations_per_second)
        below = max((size for size in newest if size <= parameters), default=None)
        above = min((size for size in newest if size >= parameters), default=None)
        if below is None or above is None or below == above:
            nearest = above if below is None else below
            return None if nearest is None else newest[nearest]
        along = math.log(parameters / below) / math.log(above / below)
        return float(newest[below] ** (1.0 - along) * newest[above] ** along)


def setup_speed_file() -> Path:
    """File of set-up's measurement, which belongs to the Python environment."""
    return Path(sys.prefix) / "share" / "modelmill" / "speed.json"


def read_speeds(*files: Path) -> MeasuredSpeeds:
    """Read the speeds of this machine from ``files``, those of earlier files first."""
    here = machine_name()
    return MeasuredSpeeds(
        [speed for file in files for speed in _read_file(file) if speed.machine == here]
    )


def record_speed(file: Path, measured: TrainingSpeed) -> None:
    """Record a speed in place of an older one of its setting; a full disk is only logged."""
    try:
        with hold_lock(file.with_name(f".{file.name}.lock")):
            others = [speed for speed in _read_file(file) if speed.setting != measured.setting]
            entries = [speed.model_dump(mode="json") for speed in [measured, *others][:MAX_SPEEDS]]
            write_atomically(file, canonical_json({"speeds": entries}))
    except OSError as error:
        log.info("the speed of this training was not recorded: %s", error)


def _read_file(file: Path) -> list[TrainingSpeed]:
    try:
        entries = json.loads(file.read_bytes())["speeds"]
        return [TrainingSpeed.model_validate(entry) for entry in entries]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        log.info("%s is ignored: %s", file, error)  # the next training writes it anew
        return []
