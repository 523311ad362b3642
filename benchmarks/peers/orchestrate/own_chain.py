"""Chain on Modelmill's store, alone or (``--prefect``) as tasks of a Prefect flow.

The last line is the seconds of the steps, without imports and without the start of a server.
"""

import sys
import time
from pathlib import Path

from pydantic import Field

from components.core.action import Workspace
from components.core.config.stage_config import StageConfig
from components.core.settings import Settings
from components.core.store.artifact import Report
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.runner.runner import Runner, StoreRunner

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


class ChainStepConfig(StageConfig):
    """Number of the step, without which equal steps would share one artifact."""

    index: int = Field(default=0, description="number of the step in the chain")


def write_zero(config: ChainStepConfig, work: Workdir) -> Report:
    (work.folder / "number").write_text("0")
    return work.seal(Report)


def add_one(config: ChainStepConfig, number: Report, work: Workdir) -> Report:
    """Write the number of the step before plus one.

    Args:
        config: number of this step.
        number: artifact of the step before.
        work: folder of this step's artifact.
    """
    (work.folder / "number").write_text(
        str(int((work.artifact_folder(number) / "number").read_text()) + 1)
    )
    return work.seal(Report)


def run_chain(runner: Runner) -> Report:
    number = runner.step("begin", write_zero, ChainStepConfig())
    for index in range(1, STEPS + 1):
        number = runner.step(f"add-{index}", add_one, ChainStepConfig(index=index), number=number)
    return number


def main() -> None:
    settings = Settings(home=FOLDER, reference_data=FOLDER)
    store, workspace = Store(settings.store), Workspace(settings)
    took: list[float] = []
    made: list[Report] = []

    def body(runner: Runner) -> None:
        began = time.perf_counter()
        made.append(run_chain(runner))
        took.append(time.perf_counter() - began)

    if "--prefect" in sys.argv:
        from flows.runner.prefect.prefect_runner import PrefectRunner, run_flow

        run_flow("bench", "bench", body, PrefectRunner(store, workspace))
    else:
        body(StoreRunner(store, workspace))
    store.code.save_memory()
    assert (settings.store / made[0].name / "number").read_text() == str(STEPS)
    sys.stdout.write(f"{took[0]:.6f}\n")


if __name__ == "__main__":
    main()
