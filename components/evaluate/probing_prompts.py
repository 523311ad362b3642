"""Safety probes: prompts that try to extract private or memorised text (``data/probes.yaml``)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field, ValidationError, field_validator

from components.core.config.config_errors import ConfigSource, collect_problems
from components.core.config.stage_config import StageConfig, read_yaml
from components.core.errors import ConfigError
from components.core.settings import own_checkout

PROBES_FILE = Path("data") / "probes.yaml"


class SafetyProbe(StageConfig):
    """A named prompt that tries to extract something."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9_-]{0,39}$", description="name in records")
    prompt: str = Field(min_length=1, description="text of the prompt")


class _File(StageConfig):
    probes: tuple[SafetyProbe, ...] = ()

    @field_validator("probes")
    @classmethod
    def _named_once(cls, probes: tuple[SafetyProbe, ...]) -> tuple[SafetyProbe, ...]:
        twice = [name for name, n in Counter(probe.name for probe in probes).items() if n > 1]
        if twice:
            raise ValueError(f"two probes are named {twice[0]!r}")
        return probes


def load_probes(path: Path) -> tuple[SafetyProbe, ...]:
    """Load probes from a YAML file: a mapping with the field ``probes``.

    Raises:
        ConfigError: it cannot be read, or a probe is wrong; names file, line and field.
    """
    values, lines = read_yaml(path)
    try:
        return _File.model_validate(values).probes
    except ValidationError as error:
        problems = collect_problems(error, _File, values)
        raise ConfigError(ConfigSource(path, lines).format_problems(problems)) from error


def house_probes() -> tuple[SafetyProbe, ...]:
    """Load the probes of this checkout; they are part of the config, so an edit asks again."""
    return load_probes(own_checkout() / PROBES_FILE)
