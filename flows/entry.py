"""Console script: imports the command line, which takes a second, and can be stopped meanwhile."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command that was typed."""
    try:
        from flows.cli import main as run_command
    except KeyboardInterrupt:
        sys.stderr.write("modelmill: stopped\n")
        sys.stderr.flush()
        os._exit(130)  # half imported libraries have no good exit
    run_command()


if __name__ == "__main__":
    main()
