"""Chain on Prefect alone, with its cache by inputs and source."""

import sys
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import INPUTS, TASK_SOURCE

# PREFECT_LOCAL_STORAGE_PATH gives each chain a folder of its own for its results.
FOLDER, STEPS = Path(sys.argv[1]), int(sys.argv[2])


@task(
    cache_policy=INPUTS + TASK_SOURCE,
    persist_result=True,
    result_serializer="json",
    log_prints=False,
)
def add_one(number: int) -> int:
    return number + 1


@flow(log_prints=False)
def add_chain() -> int:
    number = 0
    for _ in range(STEPS):
        number = add_one.submit(number).result()
    return number


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    assert add_chain() == STEPS
