"""Prompts that try to draw something out, as people write them in ``data/probes.yaml``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from components.core.config.config_errors import Source, problems_of
from components.core.config.stage_config import StageConfig, read_yaml
from components.core.errors import ConfigError
from components.core.settings import checkout

HOUSE_FILE = Path("data") / "probes.yaml"


class Probe(StageConfig):
    """One prompt."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,39}$", description="what the records call it")
    prompt: str = Field(min_length=1, description="what is asked")


class _File(StageConfig):
    probes: tuple[Probe, ...] = ()

    @field_validator("probes")
    @classmethod
    def _named_once(cls, probes: tuple[Probe, ...]) -> tuple[Probe, ...]:
        twice = [name for name, n in Counter(probe.name for probe in probes).items() if n > 1]
        if twice:
            raise ValueError(f"two probes are named {twice[0]!r}")
        return probes


def load_probes(path: Path) -> tuple[Probe, ...]:
    """The probes of a YAML file: a mapping with the field ``probes``.

    Raises:
        ConfigError: it cannot be read, or a probe is wrong; names file, line and field.
    """
    values, lines = read_yaml(path)
    try:
        return _File.model_validate(values).probes
    except ValidationError as error:
        problems = problems_of(error, _File, values)
        raise ConfigError(Source(path, lines).tell(problems)) from error


def house_probes() -> tuple[Probe, ...]:
    """The probes of this checkout; loaded into the config, so that an edit asks again."""
    return load_probes(checkout(Path(__file__).parent) / HOUSE_FILE)
