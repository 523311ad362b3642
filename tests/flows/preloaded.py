"""State of the process that commands are forked from: imports, and the trees of all modules.

Nothing here may start a thread that works (an import graph does): a fork would wait for it for
ever. Prefect is not imported, since it reads its environment then.
"""

from pathlib import Path

import torch  # noqa: F401

import flows.cli.main
import flows.pipelines.run_stage
import flows.runner.run_pipeline  # noqa: F401
from components.core.store.code_digest import PACKAGES, normalise_source

for package in PACKAGES:
    for path in (Path(__file__).parents[2] / package).rglob("*.py"):
        normalise_source(path.read_text())  # remembered
