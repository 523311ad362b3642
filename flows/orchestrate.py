"""The same steps as Prefect tasks of a Prefect flow run.

Prefect's own cache stays off: its key sees the wrapper, not the component. A hit is a state named
``Cached``, an action without work one named ``Unchanged``, so that the UI shows them. What a step
or a run refuses is the message of its failed state: one line, without a traceback in the log.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import psutil
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Failed

from components.core.errors import MillError
from components.core.log import get_logger, mask
from components.core.settings import STARTUP
from components.publish import approvals
from components.publish.approvals import NeedsApproval, Pending, decide, decision
from flows.approval import Question, Word, ask, question_text
from flows.step import Mill, StepResult, StoreMill

SERVER = "prefect.server.api.server:create_app"
log = get_logger(__name__)


class PrefectMill(StoreMill):
    """Each step is a task run of the surrounding flow run."""

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        results: list[StepResult] = []
        refusals: list[MillError] = []

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def run_step() -> State[str]:
            try:
                result = body()
            except NeedsApproval as error:
                refusals.append(error)
                return Completed(name="Waiting", message=str(error))
            except MillError as error:
                refusals.append(error)
                return refused(error)
            results.append(result)
            # The artifact's digest is all that Prefect needs to hold.
            return Completed(
                name=result.state, message=result.said or None, data=result.artifact.digest
            )

        # A state returned from a direct call would reach the flow as a state.
        run = run_step.submit()
        run.wait()
        if refusals:
            raise refusals[0]
        run.result()
        return results[0]

    def _wait_for_approval(self, name: str, pending: Pending) -> None:
        """Pause the flow run where a server can show the form; else wait as without Prefect."""
        settings = self.workspace.settings

        def heard() -> Word | None:
            said = decision(settings, pending.bundle, pending.model)
            return None if said is None else Word.of(said.yes, said.who, said.why)

        def say(word: Word) -> None:
            decide(settings, pending, word.decision == "yes", word.who, word.why)

        text = question_text(pending.named, pending.champion, pending.figures, pending.verdicts)
        question = Question(pending.named, text, pending.hours)
        if settings.prefect_api_url is not None and heard() is None:
            # Where this process does not hear the form's answer, `up` finds it by this id.
            context = FlowRunContext.get()
            identifier = str(context.flow_run.id) if context and context.flow_run else None
            approvals.ask(settings, pending.model_copy(update={"flow_run_id": identifier}))
        if settings.prefect_api_url is None or not ask(question, heard, say):
            super()._wait_for_approval(name, pending)


def refused(error: MillError) -> State[str]:
    """The state of a run that ends with one line for its user."""
    return Failed(message=mask(str(error)))


def run_flow(name: str, run_name: str, body: Callable[[Mill], None], mill: PrefectMill) -> None:
    """Run ``body(mill)`` as one Prefect flow run, against the configured or an own server.

    Raises:
        MillError: what ``body`` raised, and the flow run has failed with its line; or no server
            answers.
    """
    refusals: list[MillError] = []
    begun: list[str] = []

    @flow(name=name, flow_run_name=run_name, log_prints=False, persist_result=False)
    def modelmill() -> State[str]:
        begun.append(run_name)
        try:
            body(mill)
        except MillError as error:
            refusals.append(error)
            return refused(error)
        return Completed()

    try:
        modelmill(return_state=True)
    except (RuntimeError, httpx.HTTPError, OSError) as error:
        if begun:
            raise
        raise MillError(_no_server(error)) from error
    if refusals:
        raise refusals[0]


def _no_server(error: Exception) -> str:
    """What to do where a run could not begin: its own server is busy, or another is gone."""
    said = " ".join(str(error).split())[:200] or type(error).__name__
    own = PREFECT_API_URL.value() is None
    longer = f", set {STARTUP} to more seconds" if own else ""
    which = "Prefect's own server" if own else f"the Prefect server at {PREFECT_API_URL.value()}"
    return (
        f"{which} does not answer ({said}): run the same command again{longer}, or leave Prefect "
        "out with --plain"
    )


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
