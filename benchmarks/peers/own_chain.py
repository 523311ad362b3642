"""The chain on Modelmill's own store, alone or (``--prefect``) as tasks of a Prefect flow.

The last line tells the seconds that the steps took, without imports and without a server's start.
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
    """Nothing to set but the number of the step: equal steps would be one."""

    index: int = Field(default=0, description="which step of the chain")


def write_zero(config: ChainStepConfig, work: Workdir) -> Report:
    (work.folder / "number").write_text("0")
    return work.seal(Report)


def add_one(config: ChainStepConfig, number: Report, work: Workdir) -> Report:
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
