"""Environment variables in a run's YAML file: ``max_pages: ${PAGES}``.

A value is substituted when the file is read. A secret is not: only ``SECRET_FIELDS`` may hold one,
and there the config keeps the text ``${NAME}``, which is resolved where the connection is opened
(infra/decisions/0022-environment-in-yaml.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.core.config.config_errors import ConfigSource, Location
from components.core.config.env_references import is_secret, list_references, resolve_references
from components.core.environment import environment_variable
from components.core.errors import ConfigError
from flows.configs.text_run import TextRun

SECRET_FIELDS: tuple[Location, ...] = (
    ("dataset", "remote"),
    ("scrape", "cookies"),
    ("scrape", "headers"),
    ("scrape", "proxy"),
)
"""Fields that keep the text ``${NAME}``, in themselves or in each of their values."""


def resolve_variables(values: Mapping[str, Any], source: ConfigSource) -> dict[str, Any]:
    """Substitute the variables in a file's ``values``, except in ``SECRET_FIELDS``.

    Raises:
        ConfigError: a variable is not set, or a secret stands in another field; names file, line
            and field.
    """
    problems: dict[Location, str] = {}
    resolved = _resolve_value(values, (), problems)
    if problems:
        raise ConfigError(source.format_problems(problems))
    assert isinstance(resolved, dict)
    return resolved


def check_secret_fields(run: TextRun, source: ConfigSource) -> None:
    """Refuse a run with a secret field whose variable is not set, before it is needed.

    Raises:
        ConfigError: names the variable and the place of its reference.
    """
    for at in SECRET_FIELDS:
        value: Any = run
        for name in at:
            value = getattr(value, str(name))
        texts = value if isinstance(value, Mapping) else {"": value}
        for name, text in texts.items():
            if isinstance(text, str) and (problem := _unset_variable_problem(text)):
                place = (*at, name) if name else at
                raise ConfigError(source.format_problems({place: problem}))


def _resolve_value(value: Any, at: Location, problems: dict[Location, str]) -> Any:
    if at in SECRET_FIELDS:
        return value
    if isinstance(value, Mapping):
        return {key: _resolve_value(inner, (*at, key), problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_resolve_value(inner, (*at, index), problems) for index, inner in enumerate(value)]
    if not isinstance(value, str):
        return value
    problem = _unset_variable_problem(value) or _secret_problem(value)
    if problem:
        problems[at] = problem
        return value
    return resolve_references(value)


def _unset_variable_problem(text: str) -> str:
    """Problem of the first variable that is not set; empty where all are."""
    names = [name for name in list_references(text) if environment_variable(name) is None]
    return f"${{{names[0]}}} is not set in the environment" if names else ""


def _secret_problem(text: str) -> str:
    """Problem of a variable that holds a secret; empty where none does."""
    for name in list_references(text):
        if is_secret(name, environment_variable(name) or ""):
            allowed = ", ".join(".".join(map(str, at)) for at in SECRET_FIELDS)
            return f"${{{name}}} is a secret, which records would show here: allowed in {allowed}"
    return ""
