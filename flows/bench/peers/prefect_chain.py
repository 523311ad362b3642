"""The chain on Prefect alone, with its own cache by inputs and source."""

import sys
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE
from prefect.filesystems import LocalFileSystem

FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


@task(
    cache_policy=INPUTS + TASK_SOURCE,
    persist_result=True,
    result_serializer="json",
    result_storage=LocalFileSystem(basepath=str(FOLDER / "results")),
    log_prints=False,
)
def add(number: int) -> int:
    return number + 1


@flow(log_prints=False)
def chain() -> int:
    number = 0
    for _ in range(STEPS):
        number = add.submit(number).result()
    return number


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    assert chain() == STEPS
