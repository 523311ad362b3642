"""Typed configuration: stage configs, and a user's YAML laid over a preset.

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

from components.core.config.config_errors import Location, Source, problems_of
from components.core.config.yaml12 import FileLoader, ValueLoader, checked_key
from components.core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


class StageConfig(BaseModel):
    """Base of every stage's config: frozen, no unknown field, no NaN. Holds no sets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    aside: ClassVar[frozenset[str]] = frozenset()
    """Fields that say how work is split and not what is made: no part of a stage's key."""

    displaces: ClassVar[Mapping[str, tuple[str, ...]]] = MappingProxyType({})
    """A field that a user writes -> fields of a preset that are then null, as other budgets are.

    A user who writes both is told so: one of them would be ignored.
    """

    def identity(self) -> dict[str, Any]:
        """The fields that a stage's key is made of."""
        return self.model_dump(mode="json", exclude=set(self.aside))


MAX_FIELDS = 100_000
"""Of one file: aliases of aliases multiply, and a few lines of them would hold billions."""


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """A YAML mapping and the line each field stands on.

    Top-level fields that begin with ``x-`` are left out: they are there to hold anchors.

    Raises:
        ConfigError: the file is missing, is no YAML, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    lines: dict[Location, int] = {}
    try:
        node = yaml.compose(text, Loader=FileLoader)
        if node is not None:
            _collect_lines(node, (), lines)
        values = yaml.load(text, Loader=FileLoader)  # noqa: S506 - a safe loader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {_problem(error)}") from error
    except (RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not usable YAML: {_problem(error)}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}:1: expected a mapping of fields, not {type(values).__name__}")
    return {key: value for key, value in values.items() if not key.startswith("x-")}, lines


def _problem(error: Exception) -> str:
    """What was wrong, in a line."""
    if isinstance(error, RecursionError):
        return "nested too deeply, or in itself"
    return str(getattr(error, "problem", None) or error).partition("\n")[0]


def _collect_lines(node: yaml.Node, at: Location, lines: dict[Location, int]) -> None:
    if len(lines) > MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS:,} fields, those of each alias counted again")
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*at, checked_key(key))
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
    """``pretrain.minutes=5`` as ``{"pretrain": {"minutes": 5}}``.

    The value is read as YAML in which nothing is a comment.
    """
    field, equals, given = assignment.partition("=")
    if not equals or not field.strip():
        raise ConfigError(f"--set {assignment}: write it as field=value, e.g. pretrain.minutes=5")
    try:
        value = yaml.load(given, Loader=ValueLoader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        shown = f"{given[:80]!r} is not a value: {_problem(error)}"
        raise ConfigError(f"--set {field.strip()}: {shown}") from error
    return _nested(tuple(field.strip().split(".")), value)


def _nested(at: Location, value: Any) -> dict[str, Any]:
    """``value`` at its place in mappings of their own."""
    outer, *inner = at
    return {str(outer): _nested(tuple(inner), value) if inner else value}


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base``: mappings merge key by key, anything else replaces."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            merged[key] = merge(below, value)
        else:
            merged[key] = value
    return merged


def overlay(
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
        within: the field of a run that ``base`` is: assignments may begin with it, and mistakes
            are named by it.

    Raises:
        ConfigError: an unknown field, a wrong type or a value out of bounds.
    """
    merged, written = merge(base.model_dump(), values), dict(values)
    for assignment in assignments:
        assigned = _inside(parse_assignment(assignment), type(base), within)
        merged, written = merge(merged, assigned), merge(written, assigned)
    merged, problems = _settled(type(base), merged, written)
    truths = _truths(type(base), merged)
    problems |= dict.fromkeys(truths, "given true or false: must be a number")
    source = Source(file, lines, assignments, within)
    try:
        made = type(base).model_validate(merged)
    except ValidationError as error:
        problems |= problems_of(error, type(base), merged)
        raise ConfigError(source.tell(problems)) from error
    if problems:
        raise ConfigError(source.tell(problems))
    return made


def _inside(assigned: dict[str, Any], model: type[BaseModel], within: str) -> dict[str, Any]:
    """``pretrain.minutes`` as ``minutes``, where a config of ``pretrain`` is asked for."""
    inner = assigned.get(within)
    return inner if isinstance(inner, dict) and within not in model.model_fields else assigned


def _settled(
    model: type[BaseModel], merged: dict[str, Any], written: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[Location, str]]:
    """``merged`` with one budget a stage, and each that a user wrote beside another."""
    problems: dict[Location, str] = {}
    for at, other, given in _displaced(model, written):
        if (*at[:-1], other) in problems:
            continue  # of two that displace each other, the one that was written first holds
        merged = merge(merged, _nested(at, None))
        if given is not None:
            problems[at] = f"given beside {other}: one of them counts; leave out the other"
    return merged, problems


def _displaced(
    model: type[BaseModel], written: Mapping[str, Any], at: Location = ()
) -> Iterator[tuple[Location, str, Any]]:
    """Each field that one of a user's displaces, that one, and what the user wrote for it."""
    for name, value in written.items():
        if value is not None and issubclass(model, StageConfig):
            for other in model.displaces.get(name, ()):
                yield (*at, other), name, written.get(other)
        field = model.model_fields.get(name)
        if isinstance(value, Mapping) and field is not None:
            for kind in _kinds(field.annotation):
                if isinstance(kind, type) and issubclass(kind, BaseModel):
                    yield from _displaced(kind, value, (*at, name))


def _truths(model: type, values: Mapping[str, Any], at: Location = ()) -> Iterator[Location]:
    """Where ``true`` or ``false`` stands for a number: pydantic would take it as 1 or 0."""
    hints = get_type_hints(model)
    for name, value in values.items():
        kinds = _kinds(hints.get(name))
        if isinstance(value, bool) and bool not in kinds and kinds & {int, float}:
            yield (*at, name)
        if isinstance(value, Mapping):
            for kind in kinds:
                if isinstance(kind, type) and (issubclass(kind, BaseModel) or is_dataclass(kind)):
                    yield from _truths(kind, value, (*at, name))


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation names, unions opened."""
    inner = get_args(annotation)
    return {kind for part in inner for kind in _kinds(part)} if inner else {annotation}
