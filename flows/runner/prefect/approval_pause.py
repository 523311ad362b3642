"""A person's word before a promotion, under Prefect: the flow run is paused until it is there.

Two ways lead on. The form that Prefect's UI shows for a paused run, and ``modelmill approve`` in
any terminal, whose word is looked for beside the pause and resumes the run. Whichever comes first
is what the audit log keeps.
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
from components.core.log import get_logger, mask
from flows.runner.run_tables import gates

EVERY_SECONDS = 2.0
"""Between two looks for a word."""
log = get_logger(__name__)


class Word(RunInput):
    """What a person says, as the form asks for it."""

    decision: Literal["yes", "no"] = Field(description="promote this version?")
    who: str = Field(default="", max_length=200, description="whose word it is")
    why: str = Field(min_length=1, max_length=2000, description="kept in the audit log")

    @classmethod
    def of(cls, yes: bool, who: str, why: str) -> Word:
        """A word that was said elsewhere, cut to what the form can hold."""
        return cls(decision="yes" if yes else "no", who=who[:200], why=why[:2000] or "-")


@dataclass(frozen=True)
class Question:
    """What a person is asked."""

    named: str
    """``tiny/3``."""
    text: str
    """Markdown above the form: the figures, the gates, the champion."""
    hours: float
    """How long to wait."""


def question_text(
    named: str,
    champion: int | None,
    figures: Mapping[str, Mapping[str, Any]],
    verdicts: Sequence[Mapping[str, Any]],
) -> str:
    """What stands above the form, as Markdown: the gates and the figures of the version."""
    after = f"in place of version {champion}" if champion is not None else "as the first champion"
    lines = [f"Promote **{named}** {after}?", "", "| gate | found | must be | passes |"]
    lines += ["|---|---:|---|---|"]
    lines += [
        f"| {row['gate']} | {row['found']} | {row['must be']} | {row['passes']} |"
        for row in gates(verdicts)
    ]
    lines += ["", "| figure | value | 95 % interval |", "|---|---:|---|"]
    for name, found in figures.items():
        value, low, high = (found.get(part, "") for part in ("value", "low", "high"))
        shown = [f"{part:.4g}" if isinstance(part, float) else part for part in (value, low, high)]
        lines.append(f"| {name} | {shown[0]} | {shown[1]} to {shown[2]} |")
    return "\n".join(lines)


def ask(
    question: Question,
    heard: Callable[[], Word | None],
    say: Callable[[Word], None],
    *,
    every_seconds: float = EVERY_SECONDS,
) -> bool:
    """Pause the surrounding flow run until a word is there; whether one is.

    ``heard`` looks for a word that came another way; ``say`` records one that the form took, and
    refuses it with a ``MillError``, after which the form is shown again. False: the server that
    shows the form is gone, and the caller may wait without it.

    Raises:
        MillError: nobody answered in time.
        DataError: the record of what was said cannot be read.
    """
    asked = 0
    text = question.text
    while heard() is None:
        asked += 1
        key = f"approval-{asked}"  # the same pause twice would go on without an answer
        try:
            word = _pause(question, text, key, heard, every_seconds)
            if word is not None and heard() is None:
                say(word)
        except FlowPauseTimeout as error:
            raise MillError(
                f"{question.named}: nobody answered within {question.hours:g} h; "
                "the same run asks again"
            ) from error
        except httpx.HTTPError as error:
            log.warning("%s: Prefect's server is gone: %s", question.named, error)
            return False
        except MillError as error:
            get_run_logger().error("%s: %s", question.named, mask(str(error)))
            text = f"**Refused:** {mask(str(error))}\n\n{question.text}"
    return True


def _pause(
    question: Question,
    text: str,
    key: str,
    heard: Callable[[], Word | None],
    every_seconds: float,
) -> Word | None:
    """One showing of the form, and an ear for words that come another way.

    None: this flow run was paused under this key before, in a process that is gone.
    """
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    get_run_logger().info(
        "%s waits for a person: resume this run, or modelmill approve %s --yes|--no --why TEXT",
        question.named,
        question.named,
    )
    form = Word.with_initial_data(description=text)
    with _listening(context.flow_run.id, heard, every_seconds):
        word = pause_flow_run(
            wait_for_input=form,
            timeout=max(1, round(question.hours * 3600)),
            poll_interval=max(1, round(every_seconds)),
            key=key,
        )
    assert word is None or isinstance(word, Word)
    return word


@contextmanager
def _listening(
    flow_run: UUID, heard: Callable[[], Word | None], every_seconds: float
) -> Iterator[None]:
    """Resumes the paused run with a word that came another way."""
    over = threading.Event()

    def listen() -> None:
        while not over.wait(every_seconds):
            try:
                word = heard()
                if word is not None:
                    resume_flow_run(flow_run, run_input=word.model_dump(mode="json"))
                    return
            except (NotPausedError, FlowPauseTimeout):
                continue  # not paused yet, or no longer
            except (MillError, PrefectException, httpx.HTTPError, RuntimeError) as error:
                log.warning("looking for a word again: %s", error)

    # In the run's own context, which says where the server is.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(listen,), name="approval", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
