"""Console script ``modelmill``: imports the command line, which takes a second; can be stopped."""

from __future__ import annotations

import os
import sys
import traceback


def main() -> None:
    """Run the command that was typed; Ctrl-C during the import ends it with exit code 130."""
    try:
        from flows.cli.main import main as run_command
    except KeyboardInterrupt:
        _report_failure("stopped", "Stopped", 130)
        sys.stderr.flush()
        os._exit(130)  # half imported libraries have no good exit
    except Exception as error:  # an installation that is not whole
        traceback.print_exc()
        sys.exit(_report_failure(f"{type(error).__name__}: {error}", type(error).__name__, 1))
    run_command()


def _report_failure(error: str, kind: str, exit_code: int) -> int:
    from components.core.process.failure_line import report_failure

    return report_failure(error, kind, exit_code, as_json="--json" in sys.argv)


if __name__ == "__main__":
    main()
