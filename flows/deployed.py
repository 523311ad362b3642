"""What the deployments in ``prefect.yaml`` run: the chain on a schedule, and from a form.

A worker's flow run is the run: its steps are the task runs of that one. Parameters are small, so
that ``prefect.yaml`` and the UI can hold them; a wrong one is refused by the schema that Prefect
makes of these signatures, else by one line.

    prefect --no-prompt deploy --all
    prefect worker start --pool modelmill --type process
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field
from rich.console import Console

from components.core import settings
from components.core.errors import MillError
from flows.orchestrate import refused
from flows.running import Outcome, RunOptions, run_text

Preset = Literal["nano", "tiny", "small"]
Sets = Annotated[
    list[str],
    Field(description="further fields, each as field=value: select.quality.min_words=80"),
]
LeastChange = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="end after curation where a smaller share of documents was added or removed "
        "since the newest registered version; 0 never ends a run there",
    ),
]


@flow(name="text", log_prints=False, persist_result=False)
def scheduled(
    target: Annotated[
        str, Field(description="a preset (nano, tiny, small) or a YAML file over one")
    ] = "tiny",
    least_change: LeastChange = 0.0,
    set: Sets = [],  # noqa: B006 - Prefect copies it; None would be a second kind of nothing
) -> State[str]:
    """Crawl again, as of the schedule's date, and run the chain on what came."""
    sets = [f"change.least_change={least_change}", *set]
    return _run(RunOptions(target, sets, refresh=True, within=True, as_of=_date()))


@flow(name="text-form", log_prints=False, persist_result=False)
def on_demand(
    preset: Annotated[Preset, Field(description="where the run's config starts from")] = "tiny",
    yaml: Annotated[
        str,
        Field(
            pattern=r"^(.*\.ya?ml)?$",
            description="a YAML file over a preset, on the worker's machine; in place of the "
            "preset above",
        ),
    ] = "",
    name: Annotated[
        str,
        Field(
            pattern="^([a-z0-9][a-z0-9-]{0,62})?$",
            description="names the run, its dataset and its model; empty: the preset's or file's",
        ),
    ] = "",
    seeds: Annotated[
        list[str], Field(description="addresses to crawl from; none: what the config says")
    ] = [],  # noqa: B006
    max_pages: Annotated[
        int | None, Field(ge=1, le=10_000_000, description="pages to ask for, at most")
    ] = None,
    crawl_again: Annotated[
        bool, Field(description="ask the sites again; else the last crawl is used")
    ] = False,
    pretrain_minutes: Annotated[
        float | None, Field(gt=0, le=100_000, description="budget of pretraining")
    ] = None,
    sft_minutes: Annotated[
        float | None, Field(gt=0, le=100_000, description="budget of supervised fine-tuning")
    ] = None,
    least_change: LeastChange = 0.0,
    until: Annotated[
        str, Field(description="stop after this step (`modelmill plan` lists them); empty: go on")
    ] = "",
    set: Sets = [],  # noqa: B006
) -> State[str]:
    """Run the chain with what is typed here; what is left empty stays as the preset has it."""
    budgets = {"pretrain": pretrain_minutes, "sft": sft_minutes}
    fields: dict[str, Any] = {
        "name": name or None,
        "scrape.seeds": seeds or None,
        "scrape.max_pages": max_pages,
        "change.least_change": least_change or None,
        **{f"{stage}.minutes": minutes for stage, minutes in budgets.items()},
    }
    sets = [f"{field}={json.dumps(value)}" for field, value in fields.items() if value is not None]
    # A preset that counts steps would not look at minutes.
    sets += [f"{stage}.steps=null" for stage, minutes in budgets.items() if minutes is not None]
    options = RunOptions(
        target=yaml or preset,
        sets=[*sets, *set],
        until=until or None,
        refresh=crawl_again,
        within=True,
        as_of=_date(),
    )
    return _run(options)


def _run(options: RunOptions) -> State[str]:
    """The chain within this flow run; how it ended, as its state."""
    try:
        outcome = run_text(settings.load(), options, Console(stderr=True))
    except MillError as error:
        return refused(error)
    return Completed(message=_said(outcome))


def _said(outcome: Outcome) -> str:
    """One line on how a run ended."""
    if outcome.ended:
        return outcome.ended
    if outcome.reached is not None:
        return f"stopped after {outcome.reached}, as asked"
    notes = [result.note for result in outcome.results if result.name in ("register", "promote")]
    return "; ".join(note for note in notes if note) or "every step is done"


def _date() -> datetime | None:
    """When this flow run was due."""
    due = flow_run.scheduled_start_time
    return due if isinstance(due, datetime) else None
