"""OpenLineage events of a run: START, then COMPLETE, FAIL or ABORT, for each step that ran.

The events go to ``<home>/lineage/events.jsonl``, or to ``MODELMILL_OPENLINEAGE_URL`` where that is
set (Marquez, DataHub ...). An address that does not answer is one warning; the remaining events go
to the file.

A step that was cached or unchanged sends nothing: no job ran, and its artifact's origin was sent
when it was made. So a cached run never imports the client (0.4 s). A step's START is written
when it first makes progress, and at the latest with its end, with the time it really began.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.errors import error_line
from components.core.log import get_logger, mask_secrets
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import Artifact
from flows.runner.runner import CACHED, UNCHANGED, StepResult

if TYPE_CHECKING:
    from openlineage.client.event_v2 import RunEvent

PRODUCER = "urn:modelmill"
TIMEOUT_SECONDS = 2.0
_ENDPOINT = "api/v1/lineage"
log = get_logger(__name__)


@dataclass
class _Job:
    """OpenLineage run of one step."""

    run: str
    """UUID."""
    started_at: str
    start_sent: bool = False


class OpenLineageListener:
    """Listener that writes a run's OpenLineage events; its failures never reach the run."""

    def __init__(self, settings: Settings, name: str) -> None:
        self._folder = settings.home / "lineage"
        self._name = name
        self._url = base_address(settings.openlineage_url)
        self._run = str(uuid.uuid4())
        self._jobs: dict[str, _Job] = {}
        self._kinds: dict[str, str] = {}
        self._warned = False

    def started(self, name: str) -> None:
        self._jobs[name] = _Job(str(uuid.uuid4()), _now())

    def progressed(self, name: str, progress: Progress) -> None:
        """Send START: only a step that really runs makes progress."""
        if not self._jobs[name].start_sent:
            self._without_failing(lambda: self._start(name))

    def finished(self, result: StepResult) -> None:
        self._kinds[result.artifact.digest] = _kind(result.artifact)
        if result.state in (CACHED, UNCHANGED) and not self._jobs[result.name].start_sent:
            return
        self._without_failing(lambda: self._complete(result))

    def failed(self, name: str, error: BaseException) -> None:
        self._without_failing(lambda: self._fail(name, error))

    def _start(self, name: str) -> None:
        job = self._jobs[name]
        if not job.start_sent:
            job.start_sent = True
            self._send(self._event(name, "START", job.started_at))

    def _complete(self, result: StepResult) -> None:
        self._start(result.name)
        artifact = result.artifact
        inputs = [
            f"{self._kinds.get(digest, 'artifact')}/{digest}"
            for _, digest in sorted(artifact.lineage.parents.items())
        ]
        outputs = [f"{_kind(artifact)}/{artifact.digest}"]
        self._send(self._event(result.name, "COMPLETE", _now(), inputs, outputs))

    def _fail(self, name: str, error: BaseException) -> None:
        self._start(name)
        message = mask_secrets(str(error) or type(error).__name__)
        state = "FAIL" if isinstance(error, Exception) else "ABORT"
        self._send(self._event(name, state, _now(), error=message))

    def _event(
        self,
        name: str,
        state: str,
        time: str,
        inputs: list[str] | None = None,
        outputs: list[str] | None = None,
        error: str = "",
    ) -> RunEvent:
        from openlineage.client.event_v2 import (
            InputDataset,
            Job,
            OutputDataset,
            Run,
            RunEvent,
            RunState,
        )
        from openlineage.client.facet_v2 import error_message_run, job_type_job, parent_run

        space = self._namespace()
        facets: dict[str, Any] = {
            "parent": parent_run.ParentRunFacet(
                run=parent_run.Run(self._run),
                job=parent_run.Job(space, self._name),
                producer=PRODUCER,
            )
        }
        if error:
            facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(
                error, "PYTHON", producer=PRODUCER
            )
        kind = job_type_job.JobTypeJobFacet("BATCH", "MODELMILL", "TASK", producer=PRODUCER)
        return RunEvent(
            eventType=RunState[state],
            eventTime=time,
            run=Run(self._jobs[name].run, facets),
            job=Job(space, f"{self._name}.{name}", {"jobType": kind}),
            producer=PRODUCER,
            inputs=[InputDataset(space, name) for name in inputs or []],
            outputs=[OutputDataset(space, name) for name in outputs or []],
        )

    def _namespace(self) -> str:
        return f"modelmill://{workspace_id(self._folder)}"

    def _send(self, event: RunEvent) -> None:
        if self._url:
            try:
                _post_event(self._url, event)
                return
            except Exception as error:
                address, why = mask_secrets(self._url), error_line(error)[:200]
                self._warn(f"{address} does not take lineage events ({why})")
                self._url = None
        _append_event(self._folder / "events.jsonl", event)

    def _without_failing(self, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:
            self._warn(f"lineage events cannot be written ({error_line(error)[:200]})")

    def _warn(self, message: str) -> None:
        if not self._warned:
            log.warning("%s; the run goes on", message)
        self._warned = True


def base_address(url: str | None) -> str | None:
    """Address of a server, without the path that OpenLineage's client appends by itself."""
    return None if url is None else url.rstrip("/").removesuffix(_ENDPOINT).rstrip("/")


def workspace_id(folder: Path) -> str:
    """Identifier of this workspace in the events' namespace; made once, and moves with it."""
    path = folder / "workspace"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        beside = folder / f"workspace.{os.getpid()}"
        beside.write_text(uuid.uuid4().hex, encoding="ascii")
        try:
            os.link(beside, path)  # fails if a run beside this one was first
        except FileExistsError:
            log.debug("another run named this workspace")
        beside.unlink()
    return path.read_text(encoding="ascii").strip()


def _post_event(url: str, event: RunEvent) -> None:
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    config = HttpConfig(url=url, endpoint=_ENDPOINT, timeout=TIMEOUT_SECONDS, retry={"total": 0})
    HttpTransport(config).emit(event)


def _append_event(path: Path, event: RunEvent) -> None:
    """Append a line with one unbuffered write, so that concurrent runs do not interleave."""
    from openlineage.client.serde import Serde

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab", buffering=0) as file:
        file.write(Serde.to_json(event).encode() + b"\n")


def _kind(artifact: Artifact) -> str:
    return artifact.format.partition("/")[0]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
