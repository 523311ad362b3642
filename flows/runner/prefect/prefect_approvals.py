"""Approvals given in Prefect's form after the waiting process had ended.

A paused run waits in its process. Where that has ended, or lost the server, Prefect still shows the
form and takes an answer. ``up`` enters such answers in the audit log and reschedules the flow run:
finished stages come from the store, and the promotion finds the recorded answer.
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
from components.core.log import get_logger, mask_secrets
from components.core.settings import Settings
from components.publish.promotion.approvals import PendingApproval, list_pending, record_decision
from flows.operations.up.platform_state import prefect_api
from flows.runner.prefect.prefect_recovery import (
    abandoned_pauses,
    call_api,
    crashed_state,
    force_flow_run_state,
    is_lost,
    rescheduled_state,
)
from flows.runner.run_records import is_running, read_records

POLL_SECONDS = 5.0
_OWN_PROCESS_SECONDS = 15.0
"""Age of an answer by which a waiting process that is alive has entered it itself."""
_INPUT_PREFIX, _RESPONSE_SUFFIX = "paused-approval", "-response"
"""Prefix and suffix of the keys under which Prefect keeps the forms' answers."""
_MOST_INPUTS = 200
_RESUMABLE_STATES = ("PAUSED", "RUNNING", "CRASHED")
"""Types of states from which a lost flow run may resume; one that a person cancelled stays so."""
log = get_logger(__name__)


class ApprovalWatcher:
    """Poller for form answers, at work for as long as ``up`` runs."""

    def __init__(self, settings: Settings, api: str) -> None:
        self._settings, self._api = settings, api
        self._refused: set[str] = set()
        self._last_warning = ""

    async def watch(self) -> None:
        """Poll until the task is cancelled."""
        while True:
            await asyncio.to_thread(self.enter_answers)
            await asyncio.sleep(POLL_SECONDS)

    def enter_answers(self) -> None:
        """Record every new answer; a server that does not answer is one warning."""
        try:
            pendings = list_pending(self._settings)
            for pending in pendings:
                if pending.flow_run_id is not None:
                    self._enter_answer(pending, pending.flow_run_id)
            self._crash_abandoned(pendings)
            self._last_warning = ""
        except MillError as error:
            if str(error) != self._last_warning:
                log.warning("looking for answers failed and is tried again: %s", error)
            self._last_warning = str(error)

    def _enter_answer(self, pending: PendingApproval, flow_run: str) -> None:
        answer = self._newest_answer(pending, flow_run)
        if answer is None:
            return
        lost = is_lost(self._settings, flow_run)
        if not lost and time.time() - _created_at(answer) < _OWN_PROCESS_SECONDS:
            return
        form = json.loads(answer["value"])
        yes = form["decision"] == "yes"
        try:
            record_decision(self._settings, pending, yes, form.get("who", ""), form["why"])
        except MillError as error:
            problem = mask_secrets(str(error))
            self._refused.add(answer["id"])
            log.warning("%s: the answer in Prefect's form is refused: %s", pending.named, problem)
            if lost:
                force_flow_run_state(self._api, flow_run, crashed_state(f"refused: {problem}"))
            return
        if lost:
            reschedule_flow_run(self._api, flow_run)

    def _newest_answer(self, pending: PendingApproval, flow_run: str) -> dict[str, Any] | None:
        """Newest answer since this approval was asked; older ones were to another version."""
        query = {"prefix": _INPUT_PREFIX, "limit": _MOST_INPUTS}
        inputs = call_api(self._api, f"flow_runs/{flow_run}/input/filter", query)
        since = datetime.fromisoformat(pending.since).timestamp()
        answers = [
            answer
            for answer in inputs
            if answer["key"].endswith(_RESPONSE_SUFFIX)
            and answer["id"] not in self._refused
            and _created_at(answer) >= since
        ]
        return max(answers, key=_created_at, default=None)

    def _crash_abandoned(self, pendings: list[PendingApproval]) -> None:
        """Crash paused runs that were decided on elsewhere and whose process is gone."""
        for run in abandoned_pauses(self._settings):
            if not any(p.flow_run_id in (None, run.identifier) for p in pendings):
                message = "its process is gone, and nothing waits for its answer"
                force_flow_run_state(self._api, run.identifier, crashed_state(message))


def reschedule_flow_run(api: str, flow_run: str) -> bool:
    """Have the worker resume a lost flow run; one without a deployment is set to crashed.

    Returns:
        True if the worker takes it up.

    Raises:
        MillError: Prefect's server refused or did not answer.
    """
    row = call_api(api, f"flow_runs/{flow_run}")
    if row["state_type"] not in _RESUMABLE_STATES:
        return False
    has_deployment = row["deployment_id"] is not None
    force_flow_run_state(api, flow_run, rescheduled_state() if has_deployment else crashed_state())
    return has_deployment


def describe_follow_up(settings: Settings, pending: PendingApproval, yes: bool) -> str:
    """Describe in one line how the run goes on after a decision; empty where nothing follows.

    A lost flow run of a deployment is rescheduled.

    Args:
        settings: workspace whose run records are read, and address of Prefect.
        pending: the approval that was decided on in a terminal.
        yes: the decision.

    Raises:
        MillError: Prefect's server refused or did not answer.
    """
    records = [r for r in read_records(settings.runs) if _is_record_of(r, pending)]
    if any(is_running(record) for record in records):
        return "its run goes on"
    if not yes:
        return ""
    api = prefect_api(settings)
    if (
        pending.flow_run_id is not None
        and api is not None
        and reschedule_flow_run(api, pending.flow_run_id)
    ):
        return "its flow run starts again in the worker and goes on from there"
    command = next(
        (_run_command(record["repeat"]) for record in records if record.get("repeat")), ""
    )
    again = f"`{command}`" if command else "the same run"
    return f"no run waits for it any more: type {again} again, it goes on from there"


def _is_record_of(record: Mapping[str, Any], pending: PendingApproval) -> bool:
    """True if a record may be of the run that asks: by its flow run, or by its model."""
    config = (record.get("repeat") or {}).get("config") or {}
    model = config.get("registry", {}).get("name") or record.get("name")
    flow_run = record.get("flow_run")
    is_flow_run = pending.flow_run_id is not None and flow_run == pending.flow_run_id
    return is_flow_run or model == pending.model


def _run_command(repeat: Mapping[str, Any]) -> str:
    sets = [part for assignment in repeat["sets"] for part in ("--set", str(assignment))]
    return shlex.join(["modelmill", "run", str(repeat["target"]), *sets])


def _created_at(answer: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(answer["created"]).timestamp()
