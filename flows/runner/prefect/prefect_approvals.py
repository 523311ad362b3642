"""Answers of Prefect's form that no process heard.

A paused run waits in its process. Where that has ended, or lost the server, Prefect shows the form
all the same and takes an answer. ``up`` enters such answers in the audit log, and has the worker
take the flow run up again: what is done comes from the store, and the promotion finds the word.
"""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from components.core.errors import MillError
from components.core.log import get_logger, mask
from components.core.settings import Settings
from components.publish.promotion.approvals import Pending, decide, waiting
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.prefect_recovery import (
    ask,
    crashed,
    is_lost,
    paused_alone,
    rescheduled,
    set_state,
)
from flows.runner.run_records import at_work, read_records

EVERY_SECONDS = 5.0
_PATIENCE_SECONDS = 15.0
"""A process that lives and hears its form has entered the answer by then."""
_PREFIX, _RESPONSE = "paused-approval", "-response"
"""Prefect's names for what the forms of ``flows/runner/prefect/approval_pause.py`` took."""
_MOST = 200
_OPEN = ("PAUSED", "RUNNING", "CRASHED")
"""Types of states from which a lost flow run may go on; what a person cancelled stays so."""
log = get_logger(__name__)


class Ear:
    """Looks for answers for as long as ``up`` runs."""

    def __init__(self, settings: Settings, api: str) -> None:
        self._settings, self._api = settings, api
        self._refused: set[str] = set()
        self._warned = ""

    async def listen(self) -> None:
        """Look again and again; ends by being cancelled."""
        while True:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(EVERY_SECONDS)

    def look(self) -> None:
        """Enter what was answered; what cannot be looked at is one warning."""
        try:
            pendings = waiting(self._settings)
            for pending in pendings:
                if pending.flow_run_id is not None:
                    self._hear(pending, pending.flow_run_id)
            self._close(pendings)
            self._warned = ""
        except MillError as error:
            if str(error) != self._warned:
                log.warning("looking for answers again: %s", error)
            self._warned = str(error)

    def _hear(self, pending: Pending, flow_run: str) -> None:
        answer = self._answer(pending, flow_run)
        if answer is None:
            return
        lost = is_lost(self._settings, flow_run)
        if not lost and time.time() - _moment(answer) < _PATIENCE_SECONDS:
            return
        word = json.loads(answer["value"])
        yes = word["decision"] == "yes"
        try:
            decide(self._settings, pending, yes, word.get("who", ""), word["why"])
        except MillError as error:
            said = mask(str(error))
            self._refused.add(answer["id"])
            log.warning("%s: the answer in Prefect's form is refused: %s", pending.named, said)
            if lost:
                set_state(self._api, flow_run, crashed(f"refused: {said}"))
            return
        if lost:
            go_on(self._api, flow_run)

    def _answer(self, pending: Pending, flow_run: str) -> dict[str, Any] | None:
        """The newest answer to this question; an earlier one was to another version."""
        wanted = {"prefix": _PREFIX, "limit": _MOST}
        found = ask(self._api, f"flow_runs/{flow_run}/input/filter", wanted)
        since = datetime.fromisoformat(pending.since).timestamp()
        answers = [
            one
            for one in found
            if one["key"].endswith(_RESPONSE)
            and one["id"] not in self._refused
            and _moment(one) >= since
        ]
        return max(answers, key=_moment, default=None)

    def _close(self, pendings: list[Pending]) -> None:
        """Crash paused runs that were decided on elsewhere, and whose process is gone."""
        for run in paused_alone(self._settings):
            if not any(one.flow_run_id in (None, run.identifier) for one in pendings):
                message = "its process is gone, and nothing waits for its answer"
                set_state(self._api, run.identifier, crashed(message))


def go_on(api: str, flow_run: str) -> bool:
    """Have the worker take a lost flow run up again; False where it has no deployment: it crashed.

    Raises:
        MillError: Prefect's server did not take it.
    """
    found = ask(api, f"flow_runs/{flow_run}")
    if found["state_type"] not in _OPEN:
        return False
    deployed = found["deployment_id"] is not None
    set_state(api, flow_run, rescheduled() if deployed else crashed())
    return deployed


def what_follows(settings: Settings, pending: Pending, yes: bool) -> str:
    """What comes after a word that was given in a terminal, as one line; empty for nothing.

    Raises:
        MillError: Prefect's server did not take it.
    """
    mine = [one for one in read_records(settings.runs) if _made(one, pending)]
    if any(at_work(record) for record in mine):
        return "its run goes on"
    if not yes:
        return ""
    api = prefect_api(settings)
    if pending.flow_run_id is not None and api is not None and go_on(api, pending.flow_run_id):
        return "its flow run starts again in the worker and goes on from there"
    command = next((_typed(record["repeat"]) for record in mine if record.get("repeat")), "")
    again = f"`{command}`" if command else "the same run"
    return f"no run waits for it any more: type {again} again, it goes on from there"


def _made(record: Mapping[str, Any], pending: Pending) -> bool:
    """Whether a run's record may be of the run that asks: its flow run, or its model."""
    config = (record.get("repeat") or {}).get("config") or {}
    model = config.get("registry", {}).get("name") or record.get("name")
    same = pending.flow_run_id is not None and record.get("flow_run") == pending.flow_run_id
    return same or model == pending.model


def _typed(repeat: Mapping[str, Any]) -> str:
    sets = [part for given in repeat["sets"] for part in ("--set", str(given))]
    return shlex.join(["modelmill", "run", str(repeat["target"]), *sets])


def _moment(answer: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(answer["created"]).timestamp()
