"""Trial of a run's constitutions before it begins, so that a failing judge costs seconds."""

from __future__ import annotations

from collections.abc import Iterator

from components.core.config.stage_config import StageConfig
from components.text.constitution.constitution_trial import try_constitution
from components.text.constitution.principles import Constitution


def try_constitutions(config: StageConfig) -> None:
    """Try each constitution in the config of a run or a stage; equal ones once.

    Raises:
        ConfigError: a check fails or never ends; names the field and the principle.
    """
    tried: list[Constitution] = []
    for field, constitution in _find_constitutions(config):
        if constitution not in tried:
            try_constitution(constitution, field)
            tried.append(constitution)


def _find_constitutions(config: StageConfig, at: str = "") -> Iterator[tuple[str, Constitution]]:
    """Constitutions of a config, at any depth, as (dotted field, constitution)."""
    for name in type(config).model_fields:
        value, field = getattr(config, name), f"{at}{name}"
        if isinstance(value, Constitution):
            yield field, value
        elif isinstance(value, StageConfig):
            yield from _find_constitutions(value, f"{field}.")
