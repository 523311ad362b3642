"""A command's failure: a line for a person and, with ``--json``, one object for a program."""

from __future__ import annotations

import json
import sys
from typing import Any

from components.core.log import mask


def failure_object(error: str, kind: str, exit_code: int) -> dict[str, Any]:
    """What the object of every failed command holds, whatever else is in it."""
    return {"error": mask(error), "kind": kind, "exit_code": exit_code}


def tell_failure(error: str, kind: str, exit_code: int, *, as_json: bool) -> int:
    """Say it on standard error and, for a program, on standard output; returns ``exit_code``.

    Args:
        kind: the exception's class, ``UsageError``, ``CheckFailed`` or ``Stopped``.
    """
    failure = failure_object(error, kind, exit_code)
    prefix = "" if kind == "Stopped" else "modelmill: "
    sys.stderr.write(f"{prefix}{failure['error']}\n")
    if as_json:
        sys.stdout.write(json.dumps(failure, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    return exit_code
