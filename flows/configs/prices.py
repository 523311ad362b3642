"""Price list in a run's config, for the cost of its seconds."""

from __future__ import annotations

from pydantic import Field

from components.core.config.stage_config import StageConfig


class Prices(StageConfig):
    """Prices of the machine: ``prices: {currency: EUR, machine_hour: 0.40, watts: 350, ...}``."""

    currency: str = Field(
        default="EUR",
        min_length=1,
        max_length=8,
        description="symbol or code of the currency, shown as given",
    )
    machine_hour: float = Field(default=0.0, ge=0, description="price of the machine an hour")
    gpu_hour: float = Field(default=0.0, ge=0, description="price of one GPU an hour")
    gpus: int = Field(default=0, ge=0, le=100_000, description="GPUs held for the whole run")
    watts: float = Field(
        default=0.0, ge=0, description="electric power of the machine under load, in watts"
    )
    kilowatt_hour: float = Field(
        default=0.0, ge=0, description="price of a kilowatt hour of electricity"
    )

    @property
    def per_hour(self) -> float:
        """Price of one hour of a run, in ``currency``."""
        energy = self.watts / 1000 * self.kilowatt_hour
        return self.machine_hour + self.gpus * self.gpu_hour + energy

    def cost_of(self, seconds: float) -> float:
        """Price of ``seconds`` of a run, in ``currency``."""
        return self.per_hour * seconds / 3600
