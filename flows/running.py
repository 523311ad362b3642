"""``modelmill run`` and ``modelmill plan``: a target, a mill, a display, a record."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from components.collect.scrape import ScrapeConfig
from components.collect.scrape import resolve as resolve_sources
from components.core.action import Workspace
from components.core.artifact import Bento, ModelVersion
from components.core.config import overlay, read_yaml
from components.core.errors import ConfigError
from components.core.executor import Pool
from components.core.settings import Settings
from components.core.store import Store
from components.core.workdir import full_disk_is_one_line
from components.lineage.orders import read_orders, split_targets
from flows.display import Display, closing_table
from flows.plan import PlanMill, Planned
from flows.presets.text import PRESETS, TextRun
from flows.records import Record, Several, repeatable, step_json
from flows.step import Mill, Reached, Resolve, Silent, StepResult, StoreMill, check_until
from flows.text import text


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


@dataclass
class Outcome:
    """How a run ended."""

    run: str
    home: Path
    target: str
    reached: str | None = None
    results: list[StepResult] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The run as one JSON object."""
        return {
            "run": self.run,
            "until": self.reached,
            "seconds": round(sum(result.seconds for result in self.results), 3),
            "steps": [step_json(result) for result in self.results],
        }

    def show(self, console: Console) -> None:
        """The closing table, the address of what was made, the next command."""
        console.print()
        console.print(closing_table(self.results))
        for result in self.results:
            if isinstance(result.artifact, ModelVersion) and result.name == "register":
                console.print(f"made: {result.artifact.name} in the MLflow registry")
            elif isinstance(result.artifact, Bento):
                console.print(f"made: {_near(self.home / 'store' / result.artifact.name)}")
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
    return with_orders(_read_target(target, sets), settings)


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
        return overlay(PRESETS[target](), {}, sets)
    path = Path(target)
    if path.suffix not in {".yaml", ".yml"}:
        raise ConfigError(
            f"{target}: neither a preset ({', '.join(PRESETS)}) nor a YAML file over one"
        )
    values, lines = read_yaml(path)
    preset = values.pop("preset", None)
    if not isinstance(preset, str) or preset not in PRESETS:
        line = lines.get(("preset",), 1)
        raise ConfigError(
            f"{path}:{line}: preset: given {preset!r}: say which preset the file lies over: "
            f"{', '.join(PRESETS)}"
        )
    named = {"name": path.stem.lower().replace("_", "-"), **values}
    return overlay(PRESETS[preset](), named, sets, file=path, lines=lines)


def resolver(refresh: bool = False) -> Resolve[ScrapeConfig]:
    """What a crawl will have seen: the last one's date, or now."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def resolve(config: ScrapeConfig, earlier: list[dict[str, Any]]) -> ScrapeConfig:
        return resolve_sources(config, earlier, refresh=refresh, now=now)

    return resolve


def plan_text(settings: Settings, target: str, sets: Sequence[str]) -> list[Planned]:
    """Every step of a run as it would go."""
    mill = PlanMill(Store(settings.store))
    text(read_target(target, sets, settings), mill, resolver())
    return mill.steps


def run_text(settings: Settings, options: RunOptions, console: Console) -> Outcome:
    """Run the chain on this machine."""
    config = options.config or read_target(options.target, options.sets, settings)
    store = Store(settings.store)
    if options.until is not None:
        catalogue = PlanMill(store)
        text(config, catalogue, resolver())
        check_until(options.until, [step.name for step in catalogue.steps])
    with full_disk_is_one_line(settings.home):
        settings.prefect.mkdir(parents=True, exist_ok=True)
    record = Record(settings.runs, options.target, config.name, datetime.now(UTC))
    record.note(repeat=repeatable(config, options.target, options.sets))
    silent = Silent()
    pool = Pool()
    workspace = Workspace(settings)
    listener = Several([Display(console), record, silent])
    outcome = Outcome(record.identifier, settings.home, options.target)

    def body(mill: Mill) -> None:
        try:
            text(config, mill, resolver(options.refresh))
        except Reached as reached:
            outcome.reached = str(reached)

    try:
        if options.plain:
            body(StoreMill(store, workspace, executor=pool, listener=listener, until=options.until))
        else:
            from flows.orchestrate import PrefectMill, end_orphans, run_flow

            end_orphans(settings.prefect)
            mill = PrefectMill(
                store, workspace, executor=pool, listener=listener, until=options.until
            )
            run_flow("text", record.identifier, body, mill)
    except KeyboardInterrupt:
        record.close("stopped", "by the user")
        raise
    finally:
        pool.close()
    record.close("completed")
    outcome.results = silent.results
    return outcome
