"""Shows a run in Prefect's UI while it goes: its name, log lines, progress, tables, a summary.

The store is the record of truth. Whatever the server does not take is a warning, never the end of
the run.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import TracebackType
from uuid import UUID

import httpx
from prefect import get_run_logger
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, TaskRunContext
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogHandler

from components.core.log import HOUSE, Masked, get_logger, mask
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import ModelVersion
from components.publish.promotion.promote import list_versions
from components.publish.registry.model_registry import parse
from flows.runner.progress_display import duration, outcome, progress_line
from flows.runner.run_records import Record
from flows.runner.run_tables import Exhibit, exhibit_of, gates, summary
from flows.runner.runner import StepResult

EVERY_SECONDS = 10.0
"""Between two progress lines of one step; a shorter step has none."""
log = get_logger(__name__)


class Poster:
    """Listens to a run; a context manager around it, within its Prefect flow run."""

    def __init__(self, settings: Settings, record: Record) -> None:
        self.settings = settings
        self.record = record
        self.title = record.title
        self._results: dict[str, StepResult] = {}
        self._version: ModelVersion | None = None
        self._refused_at = ""
        self._told_at = 0.0
        self._bar: UUID | None = None
        self._handler = _RunLog()

    def __enter__(self) -> Poster:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        self._flow_run = context.flow_run.id
        self.record.note(flow_run=str(self._flow_run))
        self._rename(self.title)
        logging.getLogger(HOUSE).addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logging.getLogger(HOUSE).removeHandler(self._handler)
        if error is None or isinstance(error, Exception):
            self._conclude(error)

    def started(self, name: str) -> None:
        self._told_at, self._bar = time.monotonic(), None

    def progressed(self, name: str, progress: Progress) -> None:
        """Called within the step's task run: its log and its bar."""
        now = time.monotonic()
        if now - self._told_at < EVERY_SECONDS:
            return
        self._told_at = now
        self._log(progress_line(name, progress))
        if progress.total:
            share = min(100.0, 100 * progress.done / progress.total)
            _try(lambda: self._advance(name, share))

    def finished(self, result: StepResult) -> None:
        self._results[result.name] = result
        shown = outcome(result)
        self._log(f"{result.name}: {result.state}, {duration(result.seconds)}, {shown}")
        if result.name == "register" and isinstance(result.artifact, ModelVersion):
            self._version = result.artifact
            model, number = parse(result.artifact)
            self.title = f"{model}-v{number}"
            self._rename(self.title)
        exhibit = exhibit_of(self.settings, result, self._results)
        if exhibit is not None:
            self._post(exhibit)
        if result.name == "promote":
            self._post_gates()

    def failed(self, name: str, error: BaseException) -> None:
        said = mask(str(error) or type(error).__name__)
        if isinstance(error, KeyboardInterrupt):
            self._log(f"{name}: {said}")
            return
        self._refused_at = name
        self._log(f"{name}: {said}", logging.ERROR)
        if name == "promote":
            self._post_gates()

    def _conclude(self, error: BaseException | None) -> None:
        """The summary, which says in its first line how the run ended."""
        ending = "Completed." if error is None else f"**Failed:** {mask(str(error))}"
        if error is not None and self._refused_at:
            ending = f"**{self._refused_at}** failed: {mask(str(error))}"
        results = list(self._results.values())
        if results and results[-1].ends:
            ending = f"Completed, {results[-1].ends}."
        text = summary(self.title, self.settings, self.record.identifier, results, ending)
        title = f"What {self.title} did, and where it lies"
        _try(lambda: create_markdown_artifact(text, key=self._key("summary"), description=title))

    def _post(self, exhibit: Exhibit) -> None:
        key, title = self._key(exhibit.key), exhibit.title
        _try(lambda: create_table_artifact(exhibit.rows, key=key, description=title))

    def _post_gates(self) -> None:
        if self._version is None:
            return
        model, number = parse(self._version)
        for version in list_versions(self.settings):
            if (version["model"], version["version"]) == (model, str(number)):
                rows = gates(version["gates"])
                if rows:
                    self._post(Exhibit("gates", f"Gates of version {number}", rows))

    def _advance(self, name: str, share: float) -> None:
        if self._bar is None:
            made = create_progress_artifact(share, key=self._key(name), description=name)
            assert isinstance(made, UUID)
            self._bar = made
        else:
            update_progress_artifact(self._bar, progress=share)

    def _rename(self, name: str) -> None:
        def rename() -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_name(self._flow_run, name)

        _try(rename)

    def _log(self, line: str, level: int = logging.INFO) -> None:
        _try(lambda: get_run_logger().log(level, "%s", line))

    def _key(self, key: str) -> str:
        """Prefect keeps the versions of an artifact by its key: one for each run's name."""
        return f"{self.record.name}-{key}"


class _RunLog(APILogHandler):
    """The house's own log lines in the log of the run that they belong to, secrets masked."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(Masked("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # A thread without a run, of a library, has no log in the UI.
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


def _try(post: Callable[[], object]) -> None:
    """What the UI shows is a courtesy: a server that does not take it costs a line."""
    try:
        post()
    except (httpx.HTTPError, PrefectException, ValueError) as error:
        log.info("Prefect did not take it: %s", error)
