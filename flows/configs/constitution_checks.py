"""Constitutions of a run, tried before it begins: a judge that fails costs seconds, not a night."""

from __future__ import annotations

from collections.abc import Iterator

from components.core.config.stage_config import StageConfig
from components.text.constitution.constitution_trial import try_constitution
from components.text.constitution.principles import Constitution


def try_judges(config: StageConfig) -> None:
    """Try each constitution that a run or a stage judges by; equal ones once.

    Raises:
        ConfigError: a check fails or never ends; names the field and the principle.
    """
    tried: list[Constitution] = []
    for field, constitution in _constitutions(config):
        if constitution not in tried:
            try_constitution(constitution, field)
            tried.append(constitution)


def _constitutions(config: StageConfig, at: str = "") -> Iterator[tuple[str, Constitution]]:
    """(dotted field, constitution) of every one that a config holds."""
    for name in type(config).model_fields:
        value, field = getattr(config, name), f"{at}{name}"
        if isinstance(value, Constitution):
            yield field, value
        elif isinstance(value, StageConfig):
            yield from _constitutions(value, f"{field}.")
