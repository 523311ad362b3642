"""``modelmill run`` and ``modelmill plan``: a target, a mill, a display, a record."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from components.collect.crawl.resolve_sources import resolve as resolve_sources
from components.collect.scrape import ScrapeConfig
from components.core import log
from components.core.action import Workspace
from components.core.config.config_errors import Source
from components.core.config.stage_config import overlay, read_yaml
from components.core.errors import ConfigError
from components.core.process import shutdown
from components.core.settings import Settings, export
from components.core.store.artifact import Bento, ModelVersion
from components.core.store.executor import Pool
from components.core.store.store import Store
from components.core.store.workdir import full_disk_is_one_line
from components.lineage.forget_orders import read_orders, split_targets
from flows.configs.budget_checks import known_speeds, refuse_few_steps
from flows.configs.constitution_checks import try_judges
from flows.configs.env_variables import check_secret_fields, with_environment
from flows.configs.field_agreement import check_exportable, check_heldout_shares
from flows.configs.presets import PRESETS
from flows.configs.relative_files import with_own_files
from flows.configs.text_run import TextRun
from flows.operations.up.platform_state import prefect_api
from flows.pipelines.text import text
from flows.runner.openlineage import Events
from flows.runner.past_runs import History
from flows.runner.plan_runner import PlanMill, Planned
from flows.runner.plan_view import Plan
from flows.runner.prefect.server_address import check_prefect_api
from flows.runner.progress_display import Display, closing_table
from flows.runner.remaining_time import Forecast, ForecastRenewal
from flows.runner.run_records import Record, Several, read_records, repeatable, step_json
from flows.runner.runner import (
    Ended,
    Listener,
    Mill,
    Reached,
    Resolve,
    Silent,
    StepResult,
    StoreMill,
    check_until,
)
from flows.runner.sample_answers import ModelAnswers, answers_of_run

M = TypeVar("M", bound=StoreMill)


@dataclass(frozen=True)
class RunOptions:
    """What ``modelmill run`` was told."""

    target: str
    sets: Sequence[str] = ()
    until: str | None = None
    refresh: bool = False
    plain: bool = False
    config: TextRun | None = None
    """A whole config of an earlier run, to be run again; ``target`` only names it then."""
    within: bool = False
    """The call stands in a Prefect flow run already; the steps become task runs of that one."""
    as_of: datetime | None = None
    """The moment a new crawl stands for: a schedule's; by default now."""


@dataclass
class Outcome:
    """How a run ended."""

    run: str
    home: Path
    target: str
    reached: str | None = None
    ended: str = ""
    """Why an action ended the run early; empty where it went to its last step."""
    results: list[StepResult] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The run as one JSON object."""
        return {
            "run": self.run,
            "until": self.reached,
            "ended": self.ended,
            "seconds": round(sum(result.seconds for result in self.results), 3),
            "steps": [step_json(result) for result in self.results],
            "answers": self.answers.as_json(),
        }

    @property
    def answers(self) -> ModelAnswers:
        """Questions that the model was asked, with its answers; none where the run asked none."""
        steps = ((result.name, result.artifact.name) for result in self.results)
        return answers_of_run(self.home / "store", steps)

    def show(self, console: Console) -> None:
        """The closing table, some answers, the address of what was made, the next command."""
        console.print()
        console.print(closing_table(self.results))
        self.answers.show(console)
        for result in self.results:
            if isinstance(result.artifact, ModelVersion) and result.name == "register":
                console.print(f"made: {result.artifact.name} in the MLflow registry")
            elif isinstance(result.artifact, Bento):
                console.print(f"made: {_near(self.home / 'store' / result.artifact.name)}")
        if self.ended:
            console.print(f"ended early: {self.ended}")
        console.print(f"kept: {_near(self.home)}")
        following = f"modelmill show {self.run}" if self.reached is not None else "modelmill serve"
        console.print(f"next: [bold]{following}[/bold]")


def _near(path: Path) -> str:
    relative = os.path.relpath(path.resolve())
    return str(path.resolve()) if relative.startswith("..") else relative


def read_target(target: str, sets: Sequence[str], settings: Settings) -> TextRun:
    """A preset by name, or a YAML file over one, with ``--set`` and the orders to forget on top.

    Raises:
        ConfigError: neither, or a field in it is wrong.
    """
    run = _read_target(target, sets)
    check_heldout_shares(run.tokenizer, run.tokens)
    return with_orders(run, settings)


def with_orders(config: TextRun, settings: Settings) -> TextRun:
    """``config`` with all that this workspace was ordered to forget on its blocklists."""
    targets = [order.target for order in read_orders(settings)]
    if not targets:
        return config
    addresses, domains = split_targets(targets)
    blocklist = sorted({*config.scrape.blocklist, *targets})
    blocked = {
        "blocked_urls": tuple(sorted({*config.select.blocked_urls, *addresses})),
        "blocked_domains": tuple(sorted({*config.select.blocked_domains, *domains})),
    }
    scrape = config.scrape.model_copy(update={"blocklist": blocklist})
    select = config.select.model_copy(update=blocked)
    return config.model_copy(update={"scrape": scrape, "select": select})


def _read_target(target: str, sets: Sequence[str]) -> TextRun:
    if target in PRESETS:
        run = overlay(PRESETS[target](), {}, sets)
        check_secret_fields(run, Source(assignments=sets))
        return with_own_files(run, sets)
    path = Path(target)
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{target}: neither a preset ({', '.join(PRESETS)}) nor a YAML file over one"
        )
    values, lines = read_yaml(path)
    values = with_environment(values, Source(path, lines))
    preset = values.pop("preset", None)
    if not isinstance(preset, str) or preset not in PRESETS:
        line = lines.get(("preset",), 1)
        raise ConfigError(
            f"{path}:{line}: preset: given {preset!r}: say which preset the file lies over: "
            f"{', '.join(PRESETS)}"
        )
    named = {"name": path.stem.lower().replace("_", "-"), **values}
    run = overlay(PRESETS[preset](), named, sets, file=path, lines=lines)
    check_secret_fields(run, Source(path, lines, sets))
    return with_own_files(run, sets, file=path, values=values, lines=lines)


def resolver(refresh: bool = False, as_of: datetime | None = None) -> Resolve[ScrapeConfig]:
    """What a crawl will have seen: the last one's date, or ``as_of``, by default now.

    Looks once, so that a run and the plan before it see the same, and hash files once.
    """
    now = (as_of or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    seen: list[tuple[ScrapeConfig, ScrapeConfig]] = []

    def resolve(config: ScrapeConfig, earlier: list[dict[str, Any]]) -> ScrapeConfig:
        for asked, resolved in seen:
            if asked == config:
                return resolved
        resolved = resolve_sources(config, earlier, refresh=refresh, now=now)
        seen.append((config, resolved))
        return resolved

    return resolve


def plan_text(settings: Settings, target: str, sets: Sequence[str]) -> Plan:
    """Every step of a run as it would go."""
    config = read_target(target, sets, settings)
    mill = _planned(settings, config, Store(settings.store), resolver(), Workspace(settings))
    return Plan(mill.steps, config.prices)


def _planned(
    settings: Settings,
    config: TextRun,
    store: Store,
    resolve: Resolve[ScrapeConfig],
    workspace: Workspace | None = None,
) -> PlanMill:
    """The flow's plan. Without ``workspace`` no action looks at what is outside the store."""
    history = History(store, read_records(settings.runs), config.name)
    mill = PlanMill(store, history, config.prices, workspace, known_speeds(settings))
    text(config, mill, resolve)
    return mill


def use_running_server(settings: Settings) -> None:
    """Send this process's flow runs to the server of ``modelmill up``, where one answers.

    To be called before Prefect is imported: it reads its environment then.

    Raises:
        ConfigError: the user named a server without the path of its API.
    """
    address = settings.prefect_api_url or prefect_api(settings)
    if settings.prefect_api_url is not None:
        check_prefect_api(settings.prefect_api_url)
    if address is not None:
        export({"PREFECT_API_URL": address})


def run_text(settings: Settings, options: RunOptions, console: Console) -> Outcome:
    """Run the chain on this machine.

    Raises:
        MillError: a step failed, or refused; the run's record says so.
        KeyboardInterrupt: it was stopped; the record says so, and the same call goes on from here.
    """
    config = options.config or read_target(options.target, options.sets, settings)
    try_judges(config)
    store = Store(settings.store)
    _check_until(options, config, store)
    forecast, resolve = Forecast(), resolver(options.refresh, options.as_of)
    with full_disk_is_one_line(settings.home):
        settings.prefect.mkdir(parents=True, exist_ok=True)
    record = Record(settings.runs, options.target, config.name, datetime.now(UTC))
    record.note(repeat=_repeatable(config, options))
    silent = Silent()
    outcome = Outcome(record.identifier, settings.home, options.target)

    def body(mill: Mill) -> None:
        try:
            text(config, mill, resolve)
        except Reached as reached:
            outcome.reached = str(reached)
        except Ended as ended:
            outcome.ended = str(ended)

    events = Events(settings, config.name)
    renewal = _renewal(settings, config, store, resolve, forecast)
    display = Display(console, forecast)
    listeners: list[Listener] = [display, record, events, silent, renewal]
    try:
        with _stoppable(record, display), closing(Pool()) as pool:
            forecast.expect(_looked_ahead(settings, options, config, store, resolve))
            if options.plain:
                body(_mill(StoreMill, store, settings, options, pool, listeners))
            else:
                _under_prefect(store, settings, options, pool, listeners, record, body)
    except KeyboardInterrupt:
        record.stop()
        raise
    except Exception as error:
        if not record.ended:  # before a step began: a source's files, Prefect's server
            record.close("failed", log.mask(str(error) or type(error).__name__))
        raise
    finally:
        store.code.keep()
    record.close("completed", outcome.ended)
    outcome.results = silent.results
    return outcome


def _renewal(
    settings: Settings,
    config: TextRun,
    store: Store,
    resolve: Resolve[ScrapeConfig],
    forecast: Forecast,
) -> ForecastRenewal:
    return ForecastRenewal(
        forecast,
        lambda: known_speeds(settings),
        lambda: _planned(settings, config, store, resolve).steps,
    )


@contextmanager
def _stoppable(record: Record, display: Display) -> Iterator[None]:
    """Ctrl+C and SIGTERM end the run in order; its record says so even where by force."""
    with (
        shutdown.listening(),
        shutdown.last_words(record.stop),
        shutdown.last_words(display.stop),
        shutdown.resumable(),
    ):
        yield


def _repeatable(config: TextRun, options: RunOptions) -> dict[str, Any]:
    """What the record holds so that the run can be made again; its files are looked for there."""
    kept = repeatable(config, options.target, options.sets)
    return {**kept, "files_folder": config.scrape.folder}


def _check_until(options: RunOptions, config: TextRun, store: Store) -> None:
    if options.until is not None:
        catalogue = PlanMill(store)
        text(config, catalogue, resolver())
        check_until(options.until, [step.name for step in catalogue.steps])


def _looked_ahead(
    settings: Settings,
    options: RunOptions,
    config: TextRun,
    store: Store,
    resolve: Resolve[ScrapeConfig],
) -> list[Planned]:
    """The steps to come, each with its expected time.

    Raises:
        ConfigError: minutes of one of them come to too few steps, or one cannot write the shape.
    """
    mill = _planned(settings, config, store, resolve)
    names = [step.name for step in mill.steps]
    last = len(names) if options.until is None else names.index(options.until) + 1
    check_exportable(config.pretrain, names[:last])
    refuse_few_steps(settings, mill.steps[:last], mill.expectation)
    return mill.steps[:last]


def _mill(
    kind: type[M],
    store: Store,
    settings: Settings,
    options: RunOptions,
    pool: Pool,
    listeners: list[Listener],
) -> M:
    return kind(
        store,
        Workspace(settings),
        executor=pool,
        listener=Several(listeners),
        until=options.until,
    )


def _under_prefect(
    store: Store,
    settings: Settings,
    options: RunOptions,
    pool: Pool,
    listeners: list[Listener],
    record: Record,
    body: Callable[[Mill], None],
) -> None:
    """Steps as task runs: of the flow run around this call, or of one of their own."""
    use_running_server(settings)
    from flows.runner.prefect.prefect_reporter import Poster
    from flows.runner.prefect.prefect_runner import (
        PrefectMill,
        end_orphans,
        run_flow,
        telling_by_force,
    )

    poster = Poster(settings, record)
    mill = _mill(PrefectMill, store, settings, options, pool, [*listeners, poster])

    def shown(_: Mill) -> None:
        with telling_by_force(mill), poster:
            body(mill)

    if options.within:
        shown(mill)
    else:
        end_orphans(settings.prefect)
        run_flow("text", record.title, shown, mill)
