"""Human approval before a promotion, under Prefect: the flow run is paused until it is given.

The answer comes from the form that Prefect's UI shows for a paused run, or from ``modelmill
approve`` in any terminal, for which a thread beside the pause polls. The first of the two goes into
the audit log.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.context import FlowRunContext
from prefect.exceptions import FlowPauseTimeout, NotPausedError, PrefectException
from prefect.flow_runs import pause_flow_run, resume_flow_run
from prefect.input import RunInput
from pydantic import Field

from components.core.errors import MillError
from components.core.log import get_logger, mask_secrets
from flows.runner.run_tables import gate_rows

POLL_SECONDS = 2.0
"""Interval at which an answer from elsewhere is looked for."""
log = get_logger(__name__)


class ApprovalAnswer(RunInput):
    """Answer to an approval, with the fields of the form in Prefect's UI."""

    decision: Literal["yes", "no"] = Field(description="promote this version?")
    who: str = Field(default="", max_length=200, description="name of the deciding person")
    why: str = Field(min_length=1, max_length=2000, description="reason, kept in the audit log")

    @classmethod
    def from_decision(cls, yes: bool, who: str, why: str) -> ApprovalAnswer:
        """Answer that was given elsewhere, cut to what the form can hold.

        Args:
            yes: the decision.
            who: name of the person.
            why: reason for it.
        """
        return cls(decision="yes" if yes else "no", who=who[:200], why=why[:2000] or "-")


@dataclass(frozen=True)
class ApprovalQuestion:
    """Approval that is asked of a person."""

    version: str
    """Model version, as ``tiny/3``."""
    text: str
    """Markdown above the form: the figures, the gates, the champion."""
    hours_to_wait: float
    """Hours after which the run ends unanswered."""


def render_question(
    version: str,
    champion: int | None,
    figures: Mapping[str, Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
) -> str:
    """Markdown above the form: the gates and the figures of the version.

    Args:
        version: as ``tiny/3``.
        champion: version that it would replace; None for the first champion.
        figures: value and interval, by name.
        verdicts: verdicts of the gates.
    """
    replaced = (
        f"in place of version {champion}" if champion is not None else "as the first champion"
    )
    lines = [f"Promote **{version}** {replaced}?", "", "| gate | found | must be | passes |"]
    lines += ["|---|---:|---|---|"]
    lines += [
        f"| {row['gate']} | {row['found']} | {row['must be']} | {row['passes']} |"
        for row in gate_rows(verdicts)
    ]
    lines += ["", "| figure | value | 95 % interval |", "|---|---:|---|"]
    for name, figure in figures.items():
        value, low, high = (figure.get(part, "") for part in ("value", "low", "high"))
        shown = [f"{part:.4g}" if isinstance(part, float) else part for part in (value, low, high)]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} to {shown[2]} |")
    return "\n".join(lines)


def pause_for_answer(
    question: ApprovalQuestion,
    find_answer: Callable[[], ApprovalAnswer | None],
    record_answer: Callable[[ApprovalAnswer], None],
    *,
    poll_seconds: float = POLL_SECONDS,
) -> bool:
    """Pause the surrounding flow run until an answer is recorded.

    Args:
        question: text that the form shows.
        find_answer: looks for an answer that was given elsewhere.
        record_answer: records one from the form; a ``MillError`` refuses it, after which the form
            is shown again.
        poll_seconds: interval of ``find_answer``.

    Returns:
        False where the server that shows the form is gone: the caller may wait without it.

    Raises:
        MillError: nobody answered in time.
        DataError: the record of answers cannot be read.
    """
    showings = 0
    text = question.text
    while find_answer() is None:
        showings += 1
        key = f"approval-{showings}"  # Prefect passes a pause whose key it has seen before
        try:
            answer = _show_form(question, text, key, find_answer, poll_seconds)
            if answer is not None and find_answer() is None:
                record_answer(answer)
        except FlowPauseTimeout as error:
            raise MillError(
                f"{question.version}: nobody answered within {question.hours_to_wait:g} h; "
                "the same run asks again"
            ) from error
        except httpx.HTTPError as error:
            log.warning("%s: Prefect's server is gone: %s", question.version, error)
            return False
        except MillError as error:
            get_run_logger().error("%s: %s", question.version, mask_secrets(str(error)))
            text = f"**Refused:** {mask_secrets(str(error))}\n\n{question.text}"
    return True


def _show_form(
    question: ApprovalQuestion,
    text: str,
    key: str,
    find_answer: Callable[[], ApprovalAnswer | None],
    poll_seconds: float,
) -> ApprovalAnswer | None:
    """Show the form once, and poll for answers that are given elsewhere meanwhile.

    Returns:
        The answer; None where this flow run was paused under this key before, in a process that is
        gone.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    get_run_logger().info(
        "%s waits for a person: resume this run, or modelmill approve %s --yes|--no --why TEXT",
        question.version,
        question.version,
    )
    form = ApprovalAnswer.with_initial_data(description=text)
    with _resumed_by_answer(context.flow_run.id, find_answer, poll_seconds):
        answer = pause_flow_run(
            wait_for_input=form,
            timeout=max(1, round(question.hours_to_wait * 3600)),
            poll_interval=max(1, round(poll_seconds)),
            key=key,
        )
    assert answer is None or isinstance(answer, ApprovalAnswer)
    return answer


@contextmanager
def _resumed_by_answer(
    flow_run: UUID, find_answer: Callable[[], ApprovalAnswer | None], poll_seconds: float
) -> Iterator[None]:
    """Resume the paused run with an answer that was given elsewhere, from a thread."""
    is_over = threading.Event()

    def poll() -> None:
        while not is_over.wait(poll_seconds):
            try:
                answer = find_answer()
                if answer is not None:
                    resume_flow_run(flow_run, run_input=answer.model_dump(mode="json"))
                    return
            except (NotPausedError, FlowPauseTimeout):
                continue  # not paused yet, or no longer
            except (MillError, PrefectException, httpx.HTTPError, RuntimeError) as error:
                log.warning("looking for an answer failed and is tried again: %s", error)

    # In the run's own context, which says where the server is.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(poll,), name="approval", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
