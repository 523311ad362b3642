"""Becomes another program, which ends when its parent does, however that dies.

python -m components.core.process.exec_with_parent PARENT PROGRAM ARGUMENT …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from components.core.process.process_tree import end_with


def command(parent: int, program: Sequence[str]) -> list[str]:
    """The command line that starts ``program`` through this module."""
    return [sys.executable, "-m", "components.core.process.exec_with_parent", str(parent), *program]


if __name__ == "__main__":
    end_with(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
