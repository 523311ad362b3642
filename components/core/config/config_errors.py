"""Config errors in plain words: each mistake a line that names file, line, field, the value given
and what is allowed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

Location = tuple[str | int, ...]

_TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "string": "text",
    "list": "a list",
    "tuple": "a list",
    "dict": "a group of fields",
    "model": "a group of fields",
    "dataclass": "a group of fields",
    "mapping": "a group of fields",
}
_BOUNDS = {
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "{expected}",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}
_QUOTED = re.compile("'([^']*)'")
_MOST_LISTED = 8
"""Allowed values are listed up to this many; of more, only the closest one is suggested."""
_MOST_SHOWN = 100
"""Characters of a value in a message."""


@dataclass(frozen=True)
class ConfigSource:
    """Origin of a config's values: a file, with the line of each field, and ``--set``."""

    file: Path | None = None
    lines: Mapping[Location, int] | None = None
    assignments: Sequence[str] = ()
    within: str = ""
    """Field of the run that holds the values; ``--set`` may begin with it or leave it out."""

    def describe_place(self, at: Location) -> str:
        """Prefix of a message: ``acme.yaml:3:`` or ``--set a=b:``, with a space, or nothing."""
        dotted = ".".join(str(part) for part in at)
        for assignment in reversed(self.assignments):  # the last one holds
            name = self._full_name(assignment.partition("=")[0].strip())
            if dotted == name or dotted.startswith(name + ".") or name.startswith(dotted + "."):
                return f"--set {assignment}: "
        line = self._line_of(at)
        return "" if self.file is None else f"{self.file}:{line}: " if line else f"{self.file}: "

    def _full_name(self, name: str) -> str:
        inside = not self.within or name.startswith(f"{self.within}.")
        return name if inside else f"{self.within}.{name}"

    def _line_of(self, at: Location) -> int:
        while at and at not in (self.lines or {}):
            at = at[:-1]
        return (self.lines or {}).get(at, 0)

    def format_problems(self, problems: Mapping[Location, str]) -> str:
        """All problems, one a line, in the order of the file."""
        outer = (self.within,) if self.within else ()
        problems = {(*outer, *at): problem for at, problem in problems.items()}
        whole = "(whole file)" if self.file else "(whole config)"
        ordered = sorted(problems.items(), key=lambda item: self._line_of(item[0]))
        return "\n".join(
            f"{self.describe_place(at)}{'.'.join(map(str, at)) or whole}: {problem}"
            for at, problem in ordered
        )


def collect_problems(
    error: ValidationError, model: type[BaseModel], values: Any
) -> dict[Location, str]:
    """Translate a validation error into a message a field.

    Args:
        error: error of pydantic.
        model: class that was validated.
        values: the values validated, as the user wrote it.

    Returns:
        Field, located as in ``values``, -> message.
    """
    messages: dict[Location, list[str]] = {}
    inputs: dict[Location, Any] = {}
    for detail in error.errors(include_url=False):
        at = location_as_written(detail["loc"], values)
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # a consequence of its invalid items, which have messages of their own
        inputs[at] = detail["input"]
        wrong = _message(detail, model, at)
        if wrong not in messages.setdefault(at, []):
            messages[at].append(wrong)
    problems = {at: _join_messages(wrong, inputs[at]) for at, wrong in messages.items()}
    meant = [
        (at[:-1], wrong) for at, wrong in problems.items() if wrong.startswith("unknown field; did")
    ]
    return {
        at: wrong
        for at, wrong in problems.items()
        # A field that was misspelt is not missing as well.
        if wrong != "is missing" or not any(at[:-1] == b and f"{at[-1]!r}?" in w for b, w in meant)
    }


def _join_messages(messages: list[str], value: Any) -> str:
    """One line for all messages of a value; a union's members become alternatives."""
    musts = [text.removeprefix("must be ") for text in messages if text.startswith("must be ")]
    others = [text for text in messages if not text.startswith("must be ")]
    parts = ([f"must be {' or '.join(musts)}"] if musts else []) + others
    line = "; ".join(parts)
    plain = isinstance(value, Mapping) or line.startswith(("unknown field", "is missing"))
    if plain or (isinstance(value, list | tuple) and not musts):
        return line
    return f"given {show_value(value)}: {line}"


def _message(detail: Mapping[str, Any], model: type[BaseModel], at: Location) -> str:
    kind: str = detail["type"]
    context = detail.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return f"unknown field; {_suggest_name(str(at[-1]), field_names_at(model, at[:-1]))}"
    if kind.startswith("missing"):
        return "is missing"
    if (
        kind == "literal_error"
        and len(choices := _QUOTED.findall(context["expected"])) > _MOST_LISTED
    ):
        return f"unknown; {_suggest_name(str(detail['input']), choices)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}"
    type_name = _TYPE_NAMES.get(kind.partition("_")[0])
    if kind in ("value_error", "assertion_error") or type_name is None:
        message = str(detail["msg"]).partition(", ")[2] if "error" in kind else str(detail["msg"])
        return message or str(detail["msg"])
    allowed = field_names_at(model, at) if type_name == _TYPE_NAMES["model"] else []
    return f"must be {type_name}" + (f" ({', '.join(allowed)})" if allowed else "")


def show_value(value: Any) -> str:
    """A value in the user's spelling: ``true``, ``nothing``, text cut to a readable length."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    shown = repr(list(value) if isinstance(value, tuple) else value)
    return shown if len(shown) <= _MOST_SHOWN else f"{shown[: _MOST_SHOWN - 1]}…"


def location_as_written(at: Location, values: Any) -> Location:
    """Location without the names of union members, which pydantic inserts and a file lacks."""
    written: Location = ()
    for number, part in enumerate(at):
        absent = number == len(at) - 1 and isinstance(values, Mapping)
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            if not absent:
                continue  # a union member's name; a last part may be a missing field
        written = (*written, part)
    return written


def field_names_at(model: type, at: Location) -> list[str]:
    """Names of the fields allowed in the (possibly nested) model or dataclass at ``at``."""
    groups: list[Any] = [model]
    for part in at:
        if not isinstance(part, int):  # items share the annotation of their list
            hints = [get_type_hints(group).get(part) for group in groups]
            groups = [inner for hint in hints for inner in _nested_models(hint)]
    return list(dict.fromkeys(name for group in groups for name in _field_names(group)))


def _nested_models(annotation: Any) -> list[Any]:
    """Models and dataclasses anywhere inside an annotation."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return [annotation]
    return [model for part in get_args(annotation) for model in _nested_models(part)]


def _field_names(group: Any) -> list[str]:
    if is_dataclass(group):
        return [field.name for field in fields_of(group)]
    return list(group.model_fields)


EARLIER_NAMES = {
    "kept": "kept_samples",
    "positions": "sequence_length",
    "recompute": "activation_checkpointing",
    "short_positions": "short_sequence_length",
}
"""Fields by an earlier name (CHANGELOG): none is spelt like its present one."""


def _suggest_name(name: str, allowed: list[str]) -> str:
    if EARLIER_NAMES.get(name) in allowed:
        return f"it is called {EARLIER_NAMES[name]!r} now"
    close = difflib.get_close_matches(name, allowed, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"allowed: {', '.join(allowed)}" if allowed else "nothing is allowed here"
