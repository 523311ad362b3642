"""Source of a run as a Python caller gives it: a preset, a file, a mapping or a config object.

A mapping and overrides become the assignments of ``--set``, so that one code reads both, and the
command line can repeat the run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from components.core.errors import ConfigError
from components.core.settings import Settings
from flows.api.caller_words import name_fields_alone
from flows.configs.presets import PRESETS
from flows.configs.target_config import complete_config, read_target
from flows.configs.text_run import TextRun

Source = str | PathLike[str] | Mapping[str, Any] | TextRun
Overrides = Mapping[str, Any] | Sequence[str] | None
_FIELD = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


@dataclass(frozen=True)
class RunSource:
    """Config of a run, and the words of the command line that give the same one."""

    target: str
    sets: Sequence[str]
    config: TextRun


def read_source(source: Source, overrides: Overrides, settings: Settings) -> RunSource:
    """Read the config of a run.

    Args:
        source: preset, YAML file, mapping with ``preset`` among its fields, or config object.
        overrides: values over it: a mapping, or assignments ``field=value``.
        settings: settings of the workspace, whose orders to forget hold.

    Raises:
        ConfigError: there is no such source, or a field is wrong; names it.
    """
    sets = assignments_of(overrides)
    if isinstance(source, TextRun):
        with name_fields_alone(sets):
            config = complete_config(source, sets, settings)
        return RunSource(f"{source.name} (a config object)", sets, config)
    if isinstance(source, Mapping):
        values = dict(source)
        target = values.pop("preset", None)
        if not isinstance(target, str) or target not in PRESETS:
            raise ConfigError(
                f"preset: given {target!r}: must name the preset that the mapping changes: "
                f"{', '.join(PRESETS)}"
            )
        sets = [*assignments_of(values, "source"), *sets]
    elif isinstance(source, str | PathLike):
        target = str(source)
    else:
        raise ConfigError(
            f"source: given {type(source).__name__}: give a preset, a YAML file, a mapping or a "
            "TextRun"
        )
    with name_fields_alone(sets):
        config = read_target(target, sets, settings)
    return RunSource(target, sets, config)


def assignments_of(overrides: Overrides, argument: str = "overrides") -> list[str]:
    """``field=value`` for every override; those of nested mappings with dotted fields.

    Args:
        overrides: a mapping, or assignments.
        argument: name of the caller's argument, for messages.

    Raises:
        ConfigError: a name is no field's, or a value none that YAML can hold; names the field.
    """
    if overrides is None:
        return []
    if isinstance(overrides, Mapping):
        leaves = _leaves(overrides, argument)
        return [f"{field}={_write_value(field, value, argument)}" for field, value in leaves]
    is_list = isinstance(overrides, Sequence) and not isinstance(overrides, str | bytes)
    if not is_list or not all(isinstance(text, str) for text in overrides):
        raise ConfigError(
            f"{argument}: given {overrides!r}: give a mapping, or a list of texts field=value"
        )
    return list(overrides)


def _leaves(values: Mapping[Any, Any], argument: str, outer: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if not isinstance(name, str) or not _FIELD.fullmatch(name):
            raise ConfigError(f"{argument}: {outer}{name!r} is no name of a field")
        inner = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
        if isinstance(inner, Mapping) and inner and all(map(_is_field, inner)):
            yield from _leaves(inner, argument, f"{outer}{name}.")
        else:
            yield f"{outer}{name}", inner


def _is_field(name: object) -> bool:
    return isinstance(name, str) and _FIELD.fullmatch(name) is not None


def _write_value(field: str, value: Any, argument: str) -> str:
    """A value as JSON, which YAML reads; signs that YAML reads otherwise are escaped."""

    def convert(inner: object) -> object:
        if isinstance(inner, BaseModel):
            return inner.model_dump(mode="json")
        if isinstance(inner, Path):
            return str(inner)
        raise TypeError(f"a {type(inner).__name__} is no value of a field")

    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=convert)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{argument}: {field}: {error}") from error
    return "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in text)
