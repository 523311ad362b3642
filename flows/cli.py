"""What a user types: ``modelmill run tiny``, ``plan``, ``stage``, ``show``, ``serve`` ...

Every command takes ``--json`` (one object on standard output, everything else on standard error)
and exits 0, 1 (failed) or 2 (bad input), never with a traceback for a user's mistake.
"""

from __future__ import annotations

import json
import signal
import sys

from components.core import log
from components.core.errors import MillError
from flows.commands import bench, housekeeping, lineage, looking, machine, models, platform, runs
from flows.commands.app import app

COMMANDS = (runs, looking, lineage, models, machine, platform, housekeeping, bench)
"""Importing a module adds its commands to ``app``."""


def main() -> None:
    """The console script."""
    log.configure()
    # So that what a run started (pool, server) is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        app()
    except MillError as error:
        _refuse(error, as_json="--json" in sys.argv)


def _refuse(error: MillError, *, as_json: bool) -> None:
    """One line on standard error and, for a program, one object on standard output."""
    message = log.mask(str(error))
    sys.stderr.write(f"modelmill: {message}\n")
    if as_json:
        told = {"error": message, "kind": type(error).__name__, "exit_code": error.exit_code}
        sys.stdout.write(json.dumps(told, ensure_ascii=False) + "\n")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
