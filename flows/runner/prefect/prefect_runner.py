"""The same steps as Prefect tasks of a Prefect flow run.

Prefect's own cache stays off: its key sees the wrapper, not the component. A hit is a state named
``Cached``, an action without work one named ``Unchanged``, so that the UI shows them. What a step
or a run refuses is the message of its failed state: one line, without a traceback in the log.
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

from components.core.errors import MillError
from components.core.log import get_logger, mask
from components.core.process import shutdown
from components.core.process.shutdown import Stopped
from components.core.settings import STARTUP
from components.core.store.workdir import free_bytes, no_space_left
from components.publish.promotion import approvals
from components.publish.promotion.approvals import NeedsApproval, Pending, decide, decision
from flows.operations.retention.gc_report import size
from flows.runner.prefect.approval_pause import Question, Word, ask, question_text
from flows.runner.prefect.own_server import OwnServer
from flows.runner.runner import Mill, StepResult, StoreMill

_DRAIN_SECONDS = 0.5
_SEEN_SECONDS = (0.1, 0.2, 0.4)
"""Between looks for a task run that the server has yet to enter."""
_LITTLE = 16 << 20
"""Bytes on a disk with which a Prefect server does not do its work: a new database takes some 3."""
SERVER = "prefect.server.api.server:create_app"
log = get_logger(__name__)


class PrefectMill(StoreMill):
    """Each step is a task run of the surrounding flow run, in the thread of the flow.

    Signals reach the main thread alone, so that is where a step must be for Ctrl+C to end it.
    """

    running: UUID | None = None
    """The task run at work."""
    stopped: UUID | None = None
    """The task run that was cancelled."""

    def _execute(self, name: str, body: Callable[[], StepResult]) -> StepResult:
        results: list[StepResult] = []
        refusals: list[BaseException] = []

        @task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)
        def run_step() -> State[str]:
            context = TaskRunContext.get()
            self.running = context.task_run.id if context else None
            try:
                with shutdown.prompt():
                    result = body()
            except NeedsApproval as error:
                refusals.append(error)
                return Completed(name="Waiting", message=str(error))
            except MillError as error:
                refusals.append(error)
                return refused(error)
            except KeyboardInterrupt as stop:
                refusals.append(stop)
                self.stopped = self.running
                return cancelled(stop)
            except Exception as error:
                refusals.append(error)
                raise
            results.append(result)
            # The artifact's digest is all that Prefect needs to hold.
            return Completed(
                name=result.state, message=result.said or None, data=result.artifact.digest
            )

        try:
            # Prefect's engine is not cut between two states.
            with shutdown.deferred():
                state = run_step(return_state=True)
        finally:
            self.running = None  # it has its state, which an end by force must not change
        if refusals:
            raise refusals[0]
        if not results:
            raise MillError(f"{name}: Prefect did not run it: {state.message or state.name}")
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


def cancelled(stop: KeyboardInterrupt) -> State[str]:
    """The state of a run that a signal stopped."""
    return Cancelled(message=f"{stop or Stopped()}; the same command goes on from here")


def run_flow(name: str, run_name: str, body: Callable[[Mill], None], mill: PrefectMill) -> None:
    """Run ``body(mill)`` as one Prefect flow run, against the configured or an own server.

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
        on_crashed=[cancel_stopped],
    )
    def modelmill() -> State[str]:
        begun.append(run_name)
        return _run_body(lambda: body(mill), refusals)

    own = OwnServer() if PREFECT_API_URL.value() is None else None
    home = mill.workspace.settings.prefect
    try:
        if own is not None:
            own.start()
        with shutdown.deferred():
            modelmill(return_state=True)
        if refusals:
            raise refusals[0]
    except (RuntimeError, httpx.HTTPError, OSError) as error:
        if begun and free_bytes(home) > _LITTLE:
            raise
        raise MillError(_no_server(error, home)) from error
    except TerminationSignal as late:  # between Prefect's handler and ours
        raise Stopped(late.signal) from late
    except KeyboardInterrupt as stop:
        _see_cancelled(mill, stop)
        raise
    finally:
        if own is not None and shutdown.asked():
            own.end()


def _run_body(body: Callable[[], None], refusals: list[BaseException]) -> State[str]:
    """Run ``body`` within a flow run; the state of its end, and what it raised in ``refusals``."""
    try:
        # Prefect has put a handler of SIGTERM of its own into place.
        with shutdown.listening(), shutdown.prompt():
            body()
    except MillError as error:
        refusals.append(error)
        return refused(error)
    except KeyboardInterrupt as stop:
        refusals.append(stop)
        return cancelled(stop)
    except Exception as error:  # a bug: Prefect would keep it in the state it returns
        refusals.append(error)
        raise
    return Completed()


def _see_cancelled(mill: PrefectMill, stop: KeyboardInterrupt) -> None:
    """Bring what waits to the server, and the cancelled task run into its database.

    Task runs reach a server as events, which it enters by batches: it may end before.
    """
    for worker in (EventsWorker, APILogWorker):
        worker.drain_all(timeout=_DRAIN_SECONDS, at_exit=False)
    if mill.stopped is None:
        return
    with get_client(sync_client=True) as client:
        for wait in _SEEN_SECONDS:
            try:
                client.set_task_run_state(mill.stopped, cancelled(stop), force=True)
                return
            except ObjectNotFound:  # it only just began
                time.sleep(wait)
            except (httpx.HTTPError, PrefectException) as error:
                log.warning("Prefect was not told that a step is cancelled: %s", error)
                return


def cancel_stopped(flow: Any, flow_run: FlowRun, state: State[Any]) -> None:
    """Hook: a signal that came between Prefect's handler and ours has stopped the run too.

    Prefect says Crashed of it, before anything of ours hears of the signal.
    """
    aborted = re.search(r"aborted by an? (interrupt|termination) signal", state.message or "")
    if aborted is None:
        return
    sign = signal.SIGINT if aborted[1] == "interrupt" else signal.SIGTERM
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run.id, cancelled(Stopped(sign)), force=True)


@contextmanager
def telling_by_force(mill: PrefectMill) -> Iterator[None]:
    """Cancel the surrounding flow run, and its step at work, before an end by force."""
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    identifier = context.flow_run.id

    def tell() -> None:
        state = cancelled(shutdown.asked() or Stopped())
        try:
            with get_client(sync_client=True) as client:
                client.set_flow_run_state(identifier, state, force=True)
                if mill.running is not None:
                    client.set_task_run_state(mill.running, state, force=True)
        except (httpx.HTTPError, PrefectException) as error:
            log.warning("Prefect was not told that the run is cancelled: %s", error)

    with shutdown.last_words(tell):
        yield


def _no_server(error: Exception, home: Path) -> str:
    """What to do where a server does not answer: its own is busy or has no room, another is gone.

    Args:
        home: where its own server keeps its database.
    """
    said = " ".join(str(error).split())[:200] or type(error).__name__
    own = PREFECT_API_URL.value() is None
    longer = f", set {STARTUP} to more seconds" if own else ""
    if own and (free := free_bytes(home)) <= _LITTLE:
        return str(no_space_left(f"{home} ({size(free)} are left)"))
    address = PREFECT_API_URL.value()
    which = "Prefect's own server" if own else f"the Prefect server at {address}"
    if not own and not str(address).rstrip("/").endswith("/api"):
        which += ", whose address does not end in /api,"
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
