"""What is wrong with a user's config, in plain words: each mistake a line that names file, line,
field, what was given and what is allowed.
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

_KINDS = {
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
_MANY = 8
"""Choices that are listed whatever was given; of more, the one that was meant."""
_LONGEST = 100
"""Characters of a given value that are shown."""


@dataclass(frozen=True)
class Source:
    """Where values were given: a file with the line of each field, ``--set``."""

    file: Path | None = None
    lines: Mapping[Location, int] | None = None
    assignments: Sequence[str] = ()
    within: str = ""
    """The field of a run that the values are of; ``--set`` may begin with it or leave it out."""

    def place(self, at: Location) -> str:
        """Begins a message: ``acme.yaml:3: ``, ``--set a=b: ``; empty where nothing is known."""
        dotted = ".".join(str(part) for part in at)
        for assignment in reversed(self.assignments):  # the last one holds
            name = self._full(assignment.partition("=")[0].strip())
            if dotted == name or dotted.startswith(name + ".") or name.startswith(dotted + "."):
                return f"--set {assignment}: "
        line = self._line(at)
        return "" if self.file is None else f"{self.file}:{line}: " if line else f"{self.file}: "

    def _full(self, name: str) -> str:
        inside = not self.within or name.startswith(f"{self.within}.")
        return name if inside else f"{self.within}.{name}"

    def _line(self, at: Location) -> int:
        while at and at not in (self.lines or {}):
            at = at[:-1]
        return (self.lines or {}).get(at, 0)

    def tell(self, problems: Mapping[Location, str]) -> str:
        """All problems, a line each, in the order of the file."""
        outer = (self.within,) if self.within else ()
        problems = {(*outer, *at): problem for at, problem in problems.items()}
        whole = "(whole file)" if self.file else "(whole config)"
        ordered = sorted(problems.items(), key=lambda item: self._line(item[0]))
        return "\n".join(
            f"{self.place(at)}{'.'.join(map(str, at)) or whole}: {problem}"
            for at, problem in ordered
        )


def problems_of(error: ValidationError, model: type[BaseModel], values: Any) -> dict[Location, str]:
    """Field, as it is written in ``values``, -> what is wrong with it."""
    said: dict[Location, list[str]] = {}
    given: dict[Location, Any] = {}
    for one in error.errors(include_url=False):
        at = as_written(one["loc"], values)
        if one["type"] == "too_short" and len(one["input"]) >= one["ctx"]["min_length"]:
            continue  # only since what is in it is wrong, which is told of that
        given[at] = one["input"]
        wrong = _wrong(one, model, at)
        if wrong not in said.setdefault(at, []):
            said[at].append(wrong)
    told = {at: _joined(wrong, given[at]) for at, wrong in said.items()}
    meant = [
        (at[:-1], wrong) for at, wrong in told.items() if wrong.startswith("unknown field; did")
    ]
    return {
        at: wrong
        for at, wrong in told.items()
        # A field that was misspelt is not missing as well.
        if wrong != "is missing" or not any(at[:-1] == b and f"{at[-1]!r}?" in w for b, w in meant)
    }


def _joined(wrong: list[str], given: Any) -> str:
    """The ways in which one value is wrong: alternatives where several kinds are allowed."""
    musts = [one.removeprefix("must be ") for one in wrong if one.startswith("must be ")]
    others = [one for one in wrong if not one.startswith("must be ")]
    parts = ([f"must be {' or '.join(musts)}"] if musts else []) + others
    told = "; ".join(parts)
    plain = isinstance(given, Mapping) or told.startswith(("unknown field", "is missing"))
    if plain or (isinstance(given, list | tuple) and not musts):
        return told
    return f"given {shown(given)}: {told}"


def _wrong(one: Mapping[str, Any], model: type[BaseModel], at: Location) -> str:
    kind: str = one["type"]
    context = one.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):  # of a model, of a dataclass
        return f"unknown field; {_suggest(str(at[-1]), fields_at(model, at[:-1]))}"
    if kind.startswith("missing"):
        return "is missing"
    if kind == "literal_error" and len(choices := _QUOTED.findall(context["expected"])) > _MANY:
        return f"unknown; {_suggest(str(one['input']), choices)}"
    if kind in _BOUNDS:
        return f"must be {_BOUNDS[kind].format(**context)}"
    named = _KINDS.get(kind.partition("_")[0])
    if kind in ("value_error", "assertion_error") or named is None:
        message = str(one["msg"]).partition(", ")[2] if "error" in kind else str(one["msg"])
        return message or str(one["msg"])
    allowed = fields_at(model, at) if named == _KINDS["model"] else []
    return f"must be {named}" + (f" ({', '.join(allowed)})" if allowed else "")


def shown(value: Any) -> str:
    """A value as its user knows it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def as_written(at: Location, values: Any) -> Location:
    """A place in ``values``: pydantic's has the names of a union's kinds in it, a file has not."""
    written: Location = ()
    for number, part in enumerate(at):
        absent = number == len(at) - 1 and isinstance(values, Mapping)
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            if not absent:
                continue  # the name of a kind; a last part may be a field that is missing
        written = (*written, part)
    return written


def fields_at(model: type, at: Location) -> list[str]:
    """Names allowed inside the (possibly nested) model or dataclass at ``at``."""
    groups: list[Any] = [model]
    for part in at:
        if not isinstance(part, int):  # an item is of the same kinds as its list
            hints = [get_type_hints(group).get(part) for group in groups]
            groups = [inner for hint in hints for inner in _groups(hint)]
    return list(dict.fromkeys(name for group in groups for name in _names(group)))


def _groups(annotation: Any) -> list[Any]:
    """The models and dataclasses that an annotation names, somewhere inside."""
    if isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or is_dataclass(annotation)
    ):
        return [annotation]
    return [found for part in get_args(annotation) for found in _groups(part)]


def _names(group: Any) -> list[str]:
    if is_dataclass(group):
        return [field.name for field in fields_of(group)]
    return list(group.model_fields)


def _suggest(given: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(given, allowed, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"allowed: {', '.join(allowed)}" if allowed else "nothing is allowed here"
