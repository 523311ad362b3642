"""What a run costs: a price list in the run's config, and seconds times it."""

from __future__ import annotations

from pydantic import Field

from components.core.config.stage_config import StageConfig


class Prices(StageConfig):
    """``prices: {currency: EUR, machine_hour: 0.40, gpu_hour: 2.10, gpus: 1, watts: 350, ...}``."""

    currency: str = Field(default="EUR", min_length=1, max_length=8, description="shown as given")
    machine_hour: float = Field(default=0.0, ge=0, description="price of the machine an hour")
    gpu_hour: float = Field(default=0.0, ge=0, description="price of one GPU an hour")
    gpus: int = Field(default=0, ge=0, le=100_000, description="GPUs held for the whole run")
    watts: float = Field(default=0.0, ge=0, description="what the machine draws under load")
    kilowatt_hour: float = Field(default=0.0, ge=0, description="price of electricity")

    @property
    def hour(self) -> float:
        """One hour of a run, in ``currency``."""
        energy = self.watts / 1000 * self.kilowatt_hour
        return self.machine_hour + self.gpus * self.gpu_hour + energy

    def of(self, seconds: float) -> float:
        """``seconds`` of a run, in ``currency``."""
        return self.hour * seconds / 3600
