"""Exec a command that receives SIGTERM when its parent dies (PR_SET_PDEATHSIG).

python -m components.core.process.exec_with_parent PARENT PROGRAM ARGUMENT …
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from components.core.process.process_tree import terminate_with_parent


def exec_with_parent_command(parent: int, program: Sequence[str]) -> list[str]:
    """Command line that starts ``program`` through this module."""
    return [sys.executable, "-m", "components.core.process.exec_with_parent", str(parent), *program]


if __name__ == "__main__":
    terminate_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606
