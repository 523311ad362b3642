"""Variables of the environment in a run's YAML file: ``max_pages: ${PAGES}``.

A value is put in place when the file is read and is an ordinary one from then on. A secret is not:
only ``SECRET_FIELDS`` may hold one, and there the config keeps the text ``${NAME}``, which whoever
opens the connection resolves (infra/decisions/0022-environment-in-yaml.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.core.config.config_errors import Location, Source
from components.core.config.env_references import is_secret, referenced_names, resolve_references
from components.core.errors import ConfigError
from components.core.settings import environment_variable
from flows.configs.text_run import TextRun

SECRET_FIELDS: tuple[Location, ...] = (("dataset", "remote"),)
"""Fields that keep ``${NAME}`` as it is written."""


def with_environment(values: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """A file's ``values`` with each variable in place, but for those of ``SECRET_FIELDS``.

    Raises:
        ConfigError: a variable is not set, or a secret stands in a field that would show it; names
            file, line and field.
    """
    problems: dict[Location, str] = {}
    resolved = _resolved(values, (), problems)
    if problems:
        raise ConfigError(source.tell(problems))
    assert isinstance(resolved, dict)
    return resolved


def check_secret_fields(run: TextRun, source: Source) -> None:
    """Refuse a run one of whose kept references leads nowhere, hours before it is resolved.

    Raises:
        ConfigError: a variable is not set; names where it was given.
    """
    for at in SECRET_FIELDS:
        value: Any = run
        for name in at:
            value = getattr(value, str(name))
        if isinstance(value, str) and (problem := _unset(value)):
            raise ConfigError(source.tell({at: problem}))


def _resolved(value: Any, at: Location, problems: dict[Location, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _resolved(inner, (*at, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolved(inner, (*at, index), problems) for index, inner in enumerate(value)]
    if not isinstance(value, str) or at in SECRET_FIELDS:
        return value
    problem = _unset(value) or _leak(value)
    if problem:
        problems[at] = problem
        return value
    return resolve_references(value)


def _unset(text: str) -> str:
    """Which variable is not set; empty where all are."""
    names = [name for name in referenced_names(text) if environment_variable(name) is None]
    return f"${{{names[0]}}} is not set in the environment" if names else ""


def _leak(text: str) -> str:
    """Which variable holds a secret that the records would show; empty where none does."""
    for name in referenced_names(text):
        if is_secret(name, environment_variable(name) or ""):
            allowed = ", ".join(".".join(map(str, at)) for at in SECRET_FIELDS)
            return f"${{{name}}} is a secret, which records would show here: allowed in {allowed}"
    return ""
