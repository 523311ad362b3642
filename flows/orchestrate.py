"""The same steps as Prefect tasks of a Prefect flow run.

Prefect's own cache stays off: its key sees the wrapper, not the component. A hit is a state named
``Cached``, an action without work one named ``Unchanged``, so that the UI shows them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import psutil
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from components.core.log import get_logger
from flows.step import Mill, StepResult, StoreMill

R = TypeVar("R")
SERVER = "prefect.server.api.server:create_app"
log = get_logger(__name__)


class PrefectMill(StoreMill):
    """Each step is a task run of the surrounding flow run."""

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        results: list[StepResult] = []

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def run_step() -> State[str]:
            result = body()
            results.append(result)
            # The artifact's digest is all that Prefect needs to hold.
            return Completed(
                name=result.state, message=result.note or None, data=result.artifact.digest
            )

        # A state returned from a direct call would reach the flow as a state.
        run_step.submit().result()
        return results[0]


def run_flow(name: str, run_name: str, body: Callable[[Mill], R], mill: PrefectMill) -> R:
    """Run ``body(mill)`` as one Prefect flow run, against the configured or an own server."""

    @flow(name=name, flow_run_name=run_name, log_prints=False, persist_result=False)
    def modelmill() -> list[R]:
        return [body(mill)]  # in a list, since a flow must not return bare artifacts as states

    return modelmill()[0]


def end_orphans(home: Path) -> None:
    """End servers of this workspace whose run was killed and could not end them itself."""
    for process in psutil.process_iter(["ppid", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["ppid"] != 1 or SERVER not in command:
            continue
        try:
            if process.environ().get("PREFECT_HOME") == str(home):
                process.terminate()
        except psutil.Error as error:
            log.info("a Prefect server was left alone: %s", error)
