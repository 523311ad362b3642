"""Reporter of a run to Prefect's UI: its name, log lines, progress, tables, a summary.

The store is the source of truth. What the server does not accept is a log line, never the end of
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

from components.core.log import ROOT_LOGGER, MaskingFormatter, get_logger, mask_secrets
from components.core.progress import Progress
from components.core.settings import Settings
from components.core.store.artifact import ModelVersion
from components.publish.promotion.promote import describe_versions
from components.publish.registry.model_registry import parse_version
from flows.runner.progress_display import format_duration, progress_line, result_summary
from flows.runner.run_records import RunRecord
from flows.runner.run_tables import ResultTable, gate_rows, run_summary, table_of_step
from flows.runner.runner import StepResult

PROGRESS_LOG_SECONDS = 10.0
"""Interval between progress lines of one step; a shorter step has none."""
log = get_logger(__name__)


class PrefectReporter:
    """Listener and context manager around a run, within its Prefect flow run.

    Args:
        settings: workspace whose artifacts and registry the reports read.
        record: the run's record, which names the run.
    """

    def __init__(self, settings: Settings, record: RunRecord) -> None:
        self.settings = settings
        self.record = record
        self.title = record.title
        self._results: dict[str, StepResult] = {}
        self._version: ModelVersion | None = None
        self._failed_step = ""
        self._logged_at = 0.0
        self._bar: UUID | None = None
        self._handler = _RunLog()

    def __enter__(self) -> PrefectReporter:
        context = FlowRunContext.get()
        assert context is not None
        assert context.flow_run is not None
        self._flow_run = context.flow_run.id
        self.record.add_facts(flow_run=str(self._flow_run))
        self._rename(self.title)
        logging.getLogger(ROOT_LOGGER).addHandler(self._handler)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        logging.getLogger(ROOT_LOGGER).removeHandler(self._handler)
        if error is None or isinstance(error, Exception):
            self._post_summary(error)

    def started(self, name: str) -> None:
        self._logged_at, self._bar = time.monotonic(), None

    def progressed(self, name: str, progress: Progress) -> None:
        """Log the progress and update the bar; called within the step's task run."""
        now = time.monotonic()
        if now - self._logged_at < PROGRESS_LOG_SECONDS:
            return
        self._logged_at = now
        self._log(progress_line(name, progress))
        if progress.total:
            share = min(100.0, 100 * progress.done / progress.total)
            _tolerate_refusal(lambda: self._update_bar(name, share))

    def finished(self, result: StepResult) -> None:
        self._results[result.name] = result
        summary = result_summary(result)
        self._log(f"{result.name}: {result.state}, {format_duration(result.seconds)}, {summary}")
        if result.name == "registry" and isinstance(result.artifact, ModelVersion):
            self._version = result.artifact
            model, number = parse_version(result.artifact)
            self.title = f"{model}-v{number}"
            self._rename(self.title)
        table = table_of_step(self.settings, result, self._results)
        if table is not None:
            self._post_table(table)
        if result.name == "promote":
            self._post_gates()

    def failed(self, name: str, error: BaseException) -> None:
        message = mask_secrets(str(error) or type(error).__name__)
        if isinstance(error, KeyboardInterrupt):
            self._log(f"{name}: {message}")
            return
        self._failed_step = name
        self._log(f"{name}: {message}", logging.ERROR)
        if name == "promote":
            self._post_gates()

    def _post_summary(self, error: BaseException | None) -> None:
        """Post the summary, whose first line says how the run ended."""
        ending = "Completed." if error is None else f"**Failed:** {mask_secrets(str(error))}"
        if error is not None and self._failed_step:
            ending = f"**{self._failed_step}** failed: {mask_secrets(str(error))}"
        results = list(self._results.values())
        if results and results[-1].end_reason:
            ending = f"Completed, {results[-1].end_reason}."
        text = run_summary(self.title, self.settings, self.record.identifier, results, ending)
        title = f"What {self.title} did, and where it lies"
        _tolerate_refusal(
            lambda: create_markdown_artifact(text, key=self._key("summary"), description=title)
        )

    def _post_table(self, table: ResultTable) -> None:
        key, title = self._key(table.key), table.title
        _tolerate_refusal(lambda: create_table_artifact(table.rows, key=key, description=title))

    def _post_gates(self) -> None:
        if self._version is None:
            return
        model, number = parse_version(self._version)
        for version in describe_versions(self.settings):
            if (version["model"], version["version"]) == (model, str(number)):
                rows = gate_rows(version["gates"])
                if rows:
                    self._post_table(ResultTable("gates", f"Gates of version {number}", rows))

    def _update_bar(self, name: str, share: float) -> None:
        if self._bar is None:
            bar = create_progress_artifact(share, key=self._key(name), description=name)
            assert isinstance(bar, UUID)
            self._bar = bar
        else:
            update_progress_artifact(self._bar, progress=share)

    def _rename(self, name: str) -> None:
        def rename() -> None:
            with get_client(sync_client=True) as client:
                client.set_flow_run_name(self._flow_run, name)

        _tolerate_refusal(rename)

    def _log(self, line: str, level: int = logging.INFO) -> None:
        _tolerate_refusal(lambda: get_run_logger().log(level, "%s", line))

    def _key(self, key: str) -> str:
        """Key of an artifact of this run; Prefect keeps the versions of an artifact by its key."""
        return f"{self.record.name}-{key}"


class _RunLog(APILogHandler):
    """Handler that sends this product's log lines to their flow or task run, secrets masked."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(MaskingFormatter("%(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        # A thread without a run, of a library, has no log in the UI.
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


def _tolerate_refusal(post: Callable[[], object]) -> None:
    """Call ``post``; a server that does not accept it is a log line, since the UI is optional."""
    try:
        post()
    except (httpx.HTTPError, PrefectException, ValueError) as error:
        log.info("Prefect's server did not accept a report: %s", error)
