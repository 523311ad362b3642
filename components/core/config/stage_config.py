"""Typed stage configuration, and a user's YAML and ``--set`` laid over a preset.

Every mistake is one line that names file, line, field, what was given and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.config.config_errors import ConfigSource, Location, collect_problems
from components.core.config.yaml12 import FileLoader, ValueLoader, require_text_key
from components.core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class StageConfig(BaseModel):
    """Base of every stage's config: frozen, without unknown fields, NaN or sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    excluded_from_key: ClassVar[frozenset[str]] = frozenset()
    """Fields that divide the work without changing its result, so they are not part of the key."""

    clears_preset_fields: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """Field that a user sets -> fields of the preset that it clears, such as other budgets.

    A user who sets both gets an error, since one of them would be ignored.
    """

    def key_fields(self) -> dict[str, Any]:
        """Values of the fields that are part of a stage's key."""
        return self.model_dump(mode="json", exclude=set(self.excluded_from_key))


MAX_FIELDS = 100_000
"""Limit of one file: nested aliases multiply, so a few lines could expand to billions of fields."""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """Read a YAML mapping, and the line of each field.

    Top-level fields that begin with ``x-`` are left out: they hold anchors.

    Raises:
        ConfigError: the file is missing, is no YAML, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # not there, not UTF-8, or no path of a file system
        problem = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path}: cannot be read: {problem}") from error
    lines: dict[Location, int] = {}
    try:
        node = yaml.compose(text, Loader=FileLoader)
        if node is not None:
            _collect_lines(node, (), lines)
        values = yaml.load(text, Loader=FileLoader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {_yaml_problem(error)}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not usable YAML: {_yaml_problem(error)}") from error
    if not isinstance(values, dict):
        kind = {type(None): "nothing", list: "a list", str: "text"}.get(type(values), "one value")
        raise ConfigError(f"{path}:1: must hold fields and their values, and holds {kind}")
    return {key: value for key, value in values.items() if not key.startswith("x-")}, lines


def _yaml_problem(error: Exception) -> str:
    """Message of a YAML error, in one line."""
    if isinstance(error, RecursionError):
        return "nested too deeply, or in itself"
    return str(getattr(error, "problem", None) or error).partition("\n")[0]


def _collect_lines(node: yaml.Node, at: Location, lines: dict[Location, int]) -> None:
    if len(lines) > MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS:,} fields, those of each alias counted again")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, require_text_key(key))
            if here in lines:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{'.'.join(map(str, here))} is given twice", key.start_mark
                )
            lines[here] = key.start_mark.line + 1
            _collect_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            lines[(*at, index)] = value.start_mark.line + 1
            _collect_lines(value, (*at, index), lines)


def parse_assignment(assignment: str) -> dict[str, Any]:
    """Parse ``pretrain.minutes=5`` into ``{"pretrain": {"minutes": 5}}``.

    The value is YAML without comments.

    Raises:
        ConfigError: it is no assignment, or its value no YAML.
    """
    field, equals, text = assignment.partition("=")
    if not equals or not field.strip():
        raise ConfigError(f"--set {assignment}: write it as field=value, e.g. pretrain.minutes=5")
    try:
        value = yaml.load(text, Loader=ValueLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = f"{text[:80]!r} is not a value: {_yaml_problem(error)}"
        raise ConfigError(f"--set {field.strip()}: {shown}") from error
    return _nest_value(tuple(field.strip().split(".")), value)


def _nest_value(at: Location, value: Any) -> dict[str, Any]:
    """Mappings that hold only ``value``, at its place."""
    outer, *inner = at
    return {str(outer): _nest_value(tuple(inner), value) if inner else value}


def merge_mappings(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``over`` into a copy of ``base``: mappings key by key, anything else replaced."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge_mappings(below, value)
        else:
            merged[key] = value
    return merged


def overlay_config(
    base: M,
    values: Mapping[str, Any],
    assignments: Sequence[str] = (),
    *,
    file: Path | None = None,
    lines: Mapping[Location, int] | None = None,
    within: str = "",
) -> M:
    """``base`` with a user's values and ``--set`` assignments on top, validated as a whole.

    Args:
        base: the preset.
        values: values of the user's file.
        assignments: ``field=value``, which take precedence over ``values``.
        file: the user's, for messages.
        lines: the line of each field in it.
        within: the field of a run that ``base`` is: assignments may begin with it, and messages
            name it.

    Raises:
        ConfigError: an unknown field, a wrong type or a value out of bounds.
    """
    merged, written = merge_mappings(base.model_dump(), values), dict(values)
    for assignment in assignments:
        assigned = _strip_stage_name(parse_assignment(assignment), type(base), within)
        merged, written = merge_mappings(merged, assigned), merge_mappings(written, assigned)
    merged, problems = _clear_preset_fields(type(base), merged, written)
    truths = _booleans_for_numbers(type(base), merged)
    problems |= dict.fromkeys(truths, "given true or false: must be a number")
    source = ConfigSource(file, lines, assignments, within)
    try:
        made = type(base).model_validate(merged)
    except ValidationError as error:
        problems |= collect_problems(error, type(base), merged)
        raise ConfigError(source.format_problems(problems)) from error
    if problems:
        raise ConfigError(source.format_problems(problems))
    return made


def _strip_stage_name(
    assigned: dict[str, Any], model: type[BaseModel], within: str
) -> dict[str, Any]:
    """Assignment relative to the stage: ``minutes`` for ``pretrain.minutes`` of ``pretrain``."""
    inner = assigned.get(within)
    return inner if isinstance(inner, dict) and within not in model.model_fields else assigned


def _clear_preset_fields(
    model: type[BaseModel], merged: dict[str, Any], written: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[Location, str]]:
    """``merged`` with one budget a stage, and a problem for each second one that a user set."""
    problems: dict[Location, str] = {}
    for at, other, own_value in _cleared_fields(model, written):
        if (*at[:-1], other) in problems:
            continue  # of two that clear each other, the one written first counts
        merged = merge_mappings(merged, _nest_value(at, None))
        if own_value is not None:
            problems[at] = f"given beside {other}: one of them counts; leave out the other"
    return merged, problems


def _cleared_fields(
    model: type[BaseModel], written: Mapping[str, Any], at: Location = ()
) -> Iterator[tuple[Location, str, Any]]:
    """(field that is cleared, the user's field that clears it, the user's value of the first)."""
    for name, value in written.items():
        if value is not None and issubclass(model, StageConfig):
            for other in model.clears_preset_fields.get(name, ()):
                yield (*at, other), name, written.get(other)
        field = model.model_fields.get(name)
        if isinstance(value, Mapping) and field is not None:
            for kind in _union_members(field.annotation):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    yield from _cleared_fields(kind, value, (*at, name))


def _booleans_for_numbers(
    model: type, values: Mapping[str, Any], at: Location = ()
) -> Iterator[Location]:
    """Locations of booleans given for numbers, which pydantic would take as 1 or 0."""
    hints = get_type_hints(model)
    for name, value in values.items():
        kinds = _union_members(hints.get(name))
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            yield (*at, name)
        if isinstance(value, Mapping):
            for kind in kinds:
                if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
                    yield from _booleans_for_numbers(kind, value, (*at, name))


def _union_members(annotation: Any) -> set[Any]:
    """Types that an annotation names, members of unions and arguments of generics too."""
    inner = get_args(annotation)
    return {kind for part in inner for kind in _union_members(part)} if inner else {annotation}
