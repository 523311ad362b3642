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
from flows.runner.runner import Mill, StoreMill

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


class StepConfig(StageConfig):
    """Nothing to set but the number of the step: equal steps would be one."""

    index: int = Field(default=0, description="which step of the chain")


def begin(config: StepConfig, work: Workdir) -> Report:
    (work.folder / "number").write_text("0")
    return work.seal(Report)


def add(config: StepConfig, number: Report, work: Workdir) -> Report:
    (work.folder / "number").write_text(str(int((work.path(number) / "number").read_text()) + 1))
    return work.seal(Report)


def chain(mill: Mill) -> Report:
    number = mill.step("begin", begin, StepConfig())
    for index in range(1, STEPS + 1):
        number = mill.step(f"add-{index}", add, StepConfig(index=index), number=number)
    return number


def main() -> None:
    settings = Settings(home=FOLDER, reference_data=FOLDER)
    store, workspace = Store(settings.store), Workspace(settings)
    took: list[float] = []
    made: list[Report] = []

    def body(mill: Mill) -> None:
        began = time.perf_counter()
        made.append(chain(mill))
        took.append(time.perf_counter() - began)

    if "--prefect" in sys.argv:
        from flows.runner.prefect.prefect_runner import PrefectMill, run_flow

        run_flow("bench", "bench", body, PrefectMill(store, workspace))
    else:
        body(StoreMill(store, workspace))
    store.code.keep()
    assert (settings.store / made[0].name / "number").read_text() == str(STEPS)
    sys.stdout.write(f"{took[0]:.6f}\n")


if __name__ == "__main__":
    main()
