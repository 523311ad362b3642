"""Run or plan a target: its config, a runner, the listeners and the run's record."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from rich.console import Console

from components.collect.crawl.resolve_sources import resolve_crawl
from components.collect.scrape_config import ScrapeConfig
from components.core import log
from components.core.action import Workspace
from components.core.io.full_disk import explain_full_disk
from components.core.process import shutdown
from components.core.settings import Settings
from components.core.store.executor import ProcessExecutor
from components.core.store.store import Store
from components.core.workspace_layout import mark_layout
from flows.configs.budget_checks import read_known_speeds, refuse_few_steps
from flows.configs.constitution_checks import try_constitutions
from flows.configs.field_agreement import check_exportable
from flows.configs.target_config import read_target
from flows.configs.text_run import TextRun
from flows.pipelines.choose_pipeline import call_pipeline, pipeline_name
from flows.runner.openlineage import OpenLineageListener
from flows.runner.past_runs import RunHistory
from flows.runner.plan_runner import PlannedStep, PlanRunner
from flows.runner.plan_view import RunPlan
from flows.runner.prefect.server_address import use_running_server
from flows.runner.progress_display import ProgressDisplay
from flows.runner.remaining_time import Forecast, ForecastUpdater
from flows.runner.run_outcome import RunOutcome
from flows.runner.run_records import RunRecord, read_records, repeat_fields
from flows.runner.runner import (
    EndedEarly,
    ListenerGroup,
    ResultCollector,
    RunListener,
    Runner,
    SourceResolver,
    StageReached,
    StoreRunner,
    check_until,
)

M = TypeVar("M", bound=StoreRunner)


@dataclass(frozen=True)
class RunOptions:
    """Options of ``modelmill run``, and of a deployment's flow run."""

    target: str
    """A preset, or a YAML file over one."""
    sets: Sequence[str] = ()
    """Assignments ``field=value`` over the target."""
    until: str | None = None
    """Step to stop after."""
    refresh: bool = False
    """Crawl again in place of the last crawl."""
    plain: bool = False
    """Run without Prefect."""
    config: TextRun | None = None
    """Config of an earlier run that is repeated, or one made in Python; ``target`` and ``sets``
    then only name it.
    """
    handles_signals: bool = True
    """SIGINT and SIGTERM are handled during the run; False leaves them to the calling program."""
    inside_flow_run: bool = False
    """True within a Prefect flow run, whose task runs the steps become."""
    as_of: datetime | None = None
    """Date of a new crawl: that of the schedule; now by default."""


def make_source_resolver(
    refresh: bool = False, as_of: datetime | None = None
) -> SourceResolver[ScrapeConfig]:
    """Resolver that dates a crawl: by the last one, or else by ``as_of``, now by default.

    It resolves a config once, so that a run and the plan before it agree and files are hashed once.
    """
    now = (as_of or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    memory: list[tuple[ScrapeConfig, ScrapeConfig]] = []

    def resolve(config: ScrapeConfig, earlier: list[dict[str, Any]]) -> ScrapeConfig:
        for known, resolved in memory:
            if known == config:
                return resolved
        resolved = resolve_crawl(config, earlier, refresh=refresh, now=now)
        memory.append((config, resolved))
        return resolved

    return resolve


def plan_target(settings: Settings, target: str, sets: Sequence[str]) -> RunPlan:
    """Plan every step of a run; nothing runs and nothing is written.

    Args:
        settings: workspace whose store says what is made already.
        target: a preset, or a YAML file over one.
        sets: assignments ``field=value`` over it.

    Raises:
        ConfigError: the target or a field is wrong.
    """
    return plan_config(settings, read_target(target, sets, settings))


def plan_config(settings: Settings, config: TextRun) -> RunPlan:
    """Plan every step of the run of a config; nothing runs and nothing is written."""
    prepared = _PreparedRun(settings, config, Store(settings.store), make_source_resolver())
    return RunPlan(prepared.plan(Workspace(settings)).steps, config.prices)


@dataclass(frozen=True)
class _PreparedRun:
    """Config, store and source resolver, which a run and its plans share."""

    settings: Settings
    config: TextRun
    store: Store
    resolve: SourceResolver[ScrapeConfig]

    def plan(self, workspace: Workspace | None = None) -> PlanRunner:
        """Plan the whole pipeline; without ``workspace`` no action looks outside the store."""
        history = RunHistory(self.store, read_records(self.settings.runs), self.config.name)
        speeds = read_known_speeds(self.settings)
        runner = PlanRunner(self.store, history, self.config.prices, workspace, speeds)
        call_pipeline(self.config, runner, self.resolve)
        return runner

    def check_plan(self, until: str | None) -> list[PlannedStep]:
        """Plan the steps of this run, each with its expected time, and refuse impossible ones.

        Raises:
            ConfigError: minutes of a step come to too few steps, or an export cannot write the
                shape.
        """
        runner = self.plan()
        names = [step.name for step in runner.steps]
        last = len(names) if until is None else names.index(until) + 1
        check_exportable(self.config.pretrain, names[:last], self.config.base)
        refuse_few_steps(self.settings, runner.steps[:last], runner.time_estimator)
        return runner.steps[:last]


def run_target(settings: Settings, options: RunOptions, console: Console) -> RunOutcome:
    """Run a target's pipeline on this machine.

    Args:
        settings: workspace of the store, the run's record and the speeds.
        options: the target and how to run it.
        console: shows the progress.

    Raises:
        MillError: a step failed or refused its input; the run's record holds the line.
        KeyboardInterrupt: the run was stopped; the same call goes on from here.
    """
    config = options.config or read_target(options.target, options.sets, settings)
    try_constitutions(config)
    store = Store(settings.store)
    resolve = make_source_resolver(options.refresh, options.as_of)
    prepared = _PreparedRun(settings, config, store, resolve)
    if options.until is not None:
        _check_until(options.until, config, store)
    with explain_full_disk(settings.home):
        mark_layout(settings.home)
        settings.prefect.mkdir(parents=True, exist_ok=True)
    record = RunRecord(settings.runs, options.target, config.name, datetime.now(UTC))
    repeat = repeat_fields(config, options.target, options.sets)
    record.add_facts(repeat={**repeat, "files_folder": config.scrape.folder})
    outcome = RunOutcome(record.identifier, settings.home, options.target)

    def body(runner: Runner) -> None:
        try:
            call_pipeline(config, runner, resolve)
        except StageReached as reached:
            outcome.stopped_after = str(reached)
        except EndedEarly as ended:
            outcome.end_reason = str(ended)

    forecast = Forecast()
    display, collector = ProgressDisplay(console, forecast), ResultCollector()
    listeners: list[RunListener] = [
        display,
        record,
        OpenLineageListener(settings, config.name),
        collector,
        ForecastUpdater(
            forecast, lambda: read_known_speeds(settings), lambda: prepared.plan().steps
        ),
    ]
    try:
        stops = _recorded_stop(record, display) if options.handles_signals else nullcontext()
        with stops, closing(ProcessExecutor()) as pool:
            forecast.replace_steps(prepared.check_plan(options.until))
            if options.plain:
                body(_make_runner(StoreRunner, prepared, options, pool, listeners))
            else:
                _run_under_prefect(prepared, options, pool, listeners, record, body)
    except KeyboardInterrupt:
        record.close_stopped()
        raise
    except Exception as error:
        if not record.is_closed:  # before a step began: a source's files, Prefect's server
            record.close("failed", log.mask_secrets(str(error) or type(error).__name__))
        raise
    finally:
        store.code.save_memory()
    record.close("completed", outcome.end_reason)
    outcome.results = collector.results
    return outcome


@contextmanager
def _recorded_stop(record: RunRecord, display: ProgressDisplay) -> Iterator[None]:
    """Handle Ctrl+C and SIGTERM in order, and record the stop even before a forced exit."""
    with (
        shutdown.handle_signals(),
        shutdown.before_forced_exit(record.close_stopped),
        shutdown.before_forced_exit(display.stop),
        shutdown.mark_resumable(),
    ):
        yield


def _check_until(until: str, config: TextRun, store: Store) -> None:
    planner = PlanRunner(store)
    call_pipeline(config, planner, make_source_resolver())
    check_until(until, [step.name for step in planner.steps])


def _make_runner(
    kind: type[M],
    prepared: _PreparedRun,
    options: RunOptions,
    pool: ProcessExecutor,
    listeners: list[RunListener],
) -> M:
    return kind(
        prepared.store,
        Workspace(prepared.settings),
        executor=pool,
        listener=ListenerGroup(listeners),
        until=options.until,
    )


def _run_under_prefect(
    prepared: _PreparedRun,
    options: RunOptions,
    pool: ProcessExecutor,
    listeners: list[RunListener],
    record: RunRecord,
    body: Callable[[Runner], None],
) -> None:
    """Run the steps as task runs of the surrounding flow run, or of a flow run of their own."""
    settings = prepared.settings
    use_running_server(settings)  # before Prefect is imported, which reads its environment then
    from flows.runner.prefect.prefect_reporter import PrefectReporter
    from flows.runner.prefect.prefect_runner import (
        PrefectRunner,
        cancelled_on_forced_exit,
        end_orphan_servers,
        run_flow,
    )

    reporter = PrefectReporter(settings, record)
    runner = _make_runner(PrefectRunner, prepared, options, pool, [*listeners, reporter])

    def reported_body(_: Runner) -> None:
        with cancelled_on_forced_exit(runner), reporter:
            body(runner)

    if options.inside_flow_run:
        reported_body(runner)
    else:
        end_orphan_servers(settings.prefect)
        run_flow(pipeline_name(prepared.config), record.title, reported_body, runner)
