"""Runner under Prefect: every step is a task run of a Prefect flow run.

Prefect's own cache is off: its key would cover the wrapper, not the component. A store hit is a
state named ``Cached``, an action without work one named ``Unchanged``, so that the UI shows them. A
``MillError`` is the message of the failed state: one line, without a traceback in the log.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound, PrefectException, TerminationSignal
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL
from prefect.states import Cancelled, Completed, Failed

from components.core.errors import MillError, error_line
from components.core.io.full_disk import free_bytes, full_disk_error
from components.core.log import get_logger, mask_secrets
from components.core.process import shutdown
from components.core.process.shutdown import Stopped
from components.core.settings import PREFECT_STARTUP_VARIABLE
from components.publish.promotion import approvals
from components.publish.promotion.approvals import (
    NeedsApproval,
    PendingApproval,
    find_decision,
    record_decision,
)
from flows.runner.prefect.approval_pause import (
    ApprovalAnswer,
    ApprovalQuestion,
    pause_for_answer,
    render_question,
)
from flows.runner.prefect.ephemeral_server import EphemeralServer
from flows.runner.progress_display import format_bytes
from flows.runner.runner import Runner, StepResult, StoreRunner

_DRAIN_SECONDS = 0.5
_ENTERED_WAITS_SECONDS = (0.1, 0.2, 0.4)
"""Waits between tries for a task run that the server has yet to enter."""
_LEAST_FREE_BYTES = 16 << 20
"""Free bytes of a disk at or below which a Prefect server fails; a new database takes 3 MB."""
SERVER_APP = "prefect.server.api.server:create_app"
log = get_logger(__name__)


class PrefectRunner(StoreRunner):
    """Runner whose steps are task runs of the surrounding flow run, in the flow's thread.

    Signals reach the main thread alone, so a step has to run there for Ctrl+C to end it.
    """

    running_task: UUID | None = None
    """Id of the running task run."""
    cancelled_task: UUID | None = None
    """Id of the task run that was cancelled."""

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        results: list[StepResult] = []
        refusals: list[BaseException] = []

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def run_step() -> State[str]:
            context = TaskRunContext.get()
            self.running_task = context.task_run.id if context else None
            try:
                with shutdown.deliver_signals():
                    result = body()
            except NeedsApproval as error:
                refusals.append(error)
                return Completed(name="Waiting", message=str(error))
            except MillError as error:
                refusals.append(error)
                return failed_state(error)
            except KeyboardInterrupt as stop:
                refusals.append(stop)
                self.cancelled_task = self.running_task
                return cancelled_state(stop)
            except Exception as error:
                refusals.append(error)
                raise
            results.append(result)
            # The artifact's digest is all that Prefect needs to hold.
            return Completed(
                name=result.state, message=result.remark or None, data=result.artifact.digest
            )

        try:
            # A signal is held back while Prefect's engine goes from one state to the next.
            with shutdown.defer_signals():
                state = run_step(return_state=True)
        finally:
            self.running_task = None  # its state is final: a forced exit must not change it
        if refusals:
            raise refusals[0]
        if not results:
            raise MillError(f"{name}: Prefect did not run it: {state.message or state.name}")
        return results[0]

    def _wait_for_approval(self, name: str, pending: PendingApproval) -> None:
        """Pause the flow run where a server shows the form; else poll as without Prefect."""
        settings = self.workspace.settings

        def find_answer() -> ApprovalAnswer | None:
            decision = find_decision(settings, pending.bundle, pending.model)
            if decision is None:
                return None
            return ApprovalAnswer.from_decision(decision.yes, decision.who, decision.why)

        def record_answer(answer: ApprovalAnswer) -> None:
            yes = answer.decision == "yes"
            record_decision(settings, pending, yes, answer.who, answer.why)

        text = render_question(pending.named, pending.champion, pending.figures, pending.verdicts)
        question = ApprovalQuestion(pending.named, text, pending.hours)
        has_server = settings.prefect_api_url is not None
        if has_server and find_answer() is None:
            # An answer that this process misses is found by `up`, by this id.
            context = FlowRunContext.get()
            identifier = str(context.flow_run.id) if context and context.flow_run else None
            approvals.request_approval(
                settings, pending.model_copy(update={"flow_run_id": identifier})
            )
        if not has_server or not pause_for_answer(question, find_answer, record_answer):
            super()._wait_for_approval(name, pending)


def failed_state(error: MillError) -> State[str]:
    """State of a step or run that ends with one line for its user."""
    return Failed(message=mask_secrets(str(error)))


def cancelled_state(stop: KeyboardInterrupt) -> State[str]:
    """State of a step or run that a signal stopped."""
    return Cancelled(message=f"{stop or Stopped()}; the same command goes on from here")


def run_flow(
    name: str, run_name: str, body: Callable[[Runner], None], runner: PrefectRunner
) -> None:
    """Run ``body(runner)`` as one Prefect flow run, on the configured or an ephemeral server.

    Args:
        name: name of the flow.
        run_name: name of the flow run.
        body: runs the steps.
        runner: is given to ``body``.

    Raises:
        MillError: what ``body`` raised, and the flow run has failed with its line; or no server
            answers.
        KeyboardInterrupt: it was stopped, and the flow run is cancelled.
        Exception: a bug in ``body``, and the flow run has failed.
    """
    refusals: list[BaseException] = []
    begun: list[str] = []

    @flow(
        name=name,
        flow_run_name=run_name,
        log_prints=False,
        persist_result=False,
        on_crashed=[cancel_stopped_run],
    )
    def modelmill() -> State[str]:
        begun.append(run_name)
        return _run_body(lambda: body(runner), refusals)

    own = EphemeralServer() if PREFECT_API_URL.value() is None else None
    home = runner.workspace.settings.prefect
    try:
        if own is not None:
            own.start()
        with shutdown.defer_signals():
            modelmill(return_state=True)
        if refusals:
            raise refusals[0]
    except (RuntimeError, httpx.HTTPError, OSError) as error:
        if begun and free_bytes(home) > _LEAST_FREE_BYTES:
            raise
        raise MillError(_no_server_message(error, home)) from error
    except TerminationSignal as late:  # between Prefect's handler and ours
        raise Stopped(late.signal) from late
    except KeyboardInterrupt as stop:
        _deliver_cancellation(runner, stop)
        raise
    finally:
        if own is not None and shutdown.requested_stop():
            own.stop_promptly()


def _run_body(body: Callable[[], None], refusals: list[BaseException]) -> State[str]:
    """Run ``body`` within a flow run and return its final state; its error goes to ``refusals``."""
    try:
        # Prefect has installed a handler of SIGTERM: ours goes over it.
        with shutdown.handle_signals(), shutdown.deliver_signals():
            body()
    except MillError as error:
        refusals.append(error)
        return failed_state(error)
    except KeyboardInterrupt as stop:
        refusals.append(stop)
        return cancelled_state(stop)
    except Exception as error:  # a bug, which Prefect would hide in the state it returns
        refusals.append(error)
        raise
    return Completed()


def _deliver_cancellation(runner: PrefectRunner, stop: KeyboardInterrupt) -> None:
    """Flush events and logs to the server, and force the cancelled state of the task run.

    Task runs reach a server as events, which it enters in batches: it may end before.
    """
    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_DRAIN_SECONDS, at_exit=False)
    if runner.cancelled_task is None:
        return
    with get_client(sync_client=True) as client:
        for wait in _ENTERED_WAITS_SECONDS:
            try:
                client.set_task_run_state(runner.cancelled_task, cancelled_state(stop), force=True)
                return
            except ObjectNotFound:  # it only just began
                time.sleep(wait)
            except (httpx.HTTPError, PrefectException) as error:
                log.warning("Prefect has no record that a step was cancelled: %s", error)
                return


def cancel_stopped_run(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Set a run to Cancelled that Prefect set to Crashed at a signal (an ``on_crashed`` hook).

    A signal between Prefect's handler and ours reaches Prefect first, which calls it a crash.

    Args:
        flow: unused; Prefect passes it.
        flow_run: Prefect's record of the run.
        state: state whose message names the signal.
    """
    aborted = re.search(r"aborted by an? (interrupt|termination) signal", state.message or "")
    if aborted is None:
        return
    sign = signal.SIGINT if aborted[1] == "interrupt" else signal.SIGTERM
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, cancelled_state(Stopped(sign)), force=True)


@contextmanager
def cancelled_on_forced_exit(runner: PrefectRunner) -> Iterator[None]:
    """Cancel the surrounding flow run and its running step before a forced exit."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    identifier = context.flow_run.id

    def cancel() -> None:
        state = cancelled_state(shutdown.requested_stop() or Stopped())
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(identifier, state, force=True)
                if runner.running_task is not None:
                    client.set_task_run_state(runner.running_task, state, force=True)
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("Prefect has no record that the run was cancelled: %s", error)

    with shutdown.before_forced_exit(cancel):
        yield


def _no_server_message(error: Exception, home: Path) -> str:
    """Error line of a server that does not answer: an ephemeral one, or the configured one.

    Args:
        error: that Prefect's client raised.
        home: folder of the ephemeral server's database.
    """
    problem = error_line(error)[:200]
    own = PREFECT_API_URL.value() is None
    longer = f", set {PREFECT_STARTUP_VARIABLE} to more seconds" if own else ""
    if own and (free := free_bytes(home)) <= _LEAST_FREE_BYTES:
        return str(full_disk_error(f"{home} ({format_bytes(free)} are left)"))
    address = PREFECT_API_URL.value()
    which = "Prefect's own server" if own else f"the Prefect server at {address}"
    if not own and not str(address).rstrip("/").endswith("/api"):
        which += ", whose address does not end in /api,"
    return (
        f"{which} does not answer ({problem}): run the same command again{longer}, or leave "
        "Prefect out with --plain"
    )


def end_orphan_servers(home: Path) -> None:
    """Terminate ephemeral servers of this workspace whose run was killed."""
    for process in psutil.process_iter(["ppid", "cmdline"]):
        command = process.info["cmdline"] or []
        if process.info["ppid"] != 1 or SERVER_APP not in command:
            continue
        try:
            if process.environ().get("PREFECT_HOME") == str(home):
                process.terminate()
        except psutil.Error as error:
            log.info("an orphaned Prefect server could not be ended: %s", error)
