"""Failure of a command: one line for a person and, with ``--json``, one object for a program."""

from __future__ import annotations

import json
import sys
from typing import Any

from components.core.errors import ConfigError
from components.core.log import mask_secrets
from components.core.settings import Settings, load_settings


def failure_object(error: str, kind: str, exit_code: int) -> dict[str, Any]:
    """Fields that the JSON object of every failed command has, whatever else is in it.

    Args:
        error: the line; secrets are masked.
        kind: see ``report_failure``.
        exit_code: exit code of the command.
    """
    return {"error": mask_secrets(error), "kind": kind, "exit_code": exit_code}


def load_settings_or_exit() -> Settings:
    """Settings of a program that ``modelmill up`` starts; a refusal is one line and an exit."""
    try:
        return load_settings()
    except ConfigError as error:
        sys.exit(report_failure(str(error), type(error).__name__, error.exit_code, as_json=False))


def report_failure(error: str, kind: str, exit_code: int, *, as_json: bool) -> int:
    """Write a failure to standard error and, for a program, to standard output as JSON.

    Args:
        error: one line.
        kind: the exception's class, ``UsageError``, ``CheckFailed`` or ``Stopped``.
        exit_code: exit code of the command.
        as_json: also write the JSON object.

    Returns:
        ``exit_code``.
    """
    failure = failure_object(error, kind, exit_code)
    prefix = "" if kind == "Stopped" else "modelmill: "
    sys.stderr.write(f"{prefix}{failure['error']}\n")
    if as_json:
        sys.stdout.write(json.dumps(failure, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    return exit_code
