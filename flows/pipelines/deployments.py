"""Entry points of the deployments in ``prefect.yaml``: a run on a schedule, and from a form.

A worker's flow run is the run itself, and the pipeline's steps are its task runs. Parameters are
small, so that ``prefect.yaml`` and the UI can hold them; a wrong one is refused by the schema that
Prefect derives from these signatures, or by one error line.

    prefect --no-prompt deploy --all
    prefect worker start --pool modelmill --type process
"""

from __future__ import annotations

import atexit
import json
from collections.abc import Mapping
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
from components.core.process import shutdown
from flows.runner.prefect.prefect_runner import cancelled_state, failed_state
from flows.runner.run_outcome import RunOutcome
from flows.runner.run_pipeline import RunOptions, run_target

Preset = Literal["nano", "tiny", "small", "assistant", "finetune"]
Share = Annotated[float, Field(ge=0, le=1)]
Minutes = Annotated[float, Field(gt=0, le=100_000)]
Pages = Annotated[int, Field(ge=1, le=10_000_000)]
Name = Annotated[str, Field(pattern="^([a-z0-9][a-z0-9-]{0,62})?$")]
YamlFile = Annotated[str, Field(pattern=r"^(.*\.ya?ml)?$")]


# A list as a default is Prefect's way to say which fields a form may leave empty: it validates a
# copy of each call's parameters. What a field means stands in ``Args``, which the form shows.
@flow(name="text", log_prints=False, persist_result=False)
def scheduled(
    target: str = "tiny",
    least_change: Share = 0.0,
    set: list[str] = [],  # noqa: B006
) -> State[str]:
    """Crawl again, as of the schedule's date, and run the chain on what came.

    Args:
        target: A preset (nano, tiny, small) or a YAML file over one, on the worker's machine; of
            a run without pages nothing is crawled.
        least_change: End after curation where a smaller share of documents was added or removed
            since the newest registered version. 0 never ends a run there.
        set: Further fields, each as field=value, such as select.quality.min_words=80.
    """
    sets = [f"change.least_change={least_change}", *set]
    return _run(
        RunOptions(target, sets, refresh=True, inside_flow_run=True, as_of=_scheduled_time())
    )


@flow(name="text-form", log_prints=False, persist_result=False)
def on_demand(
    preset: Preset = "tiny",
    yaml: YamlFile = "",
    name: Name = "",
    seeds: list[str] = [],  # noqa: B006
    max_pages: Pages | None = None,
    crawl_again: bool = False,
    base: str = "",
    conversations: list[str] = [],  # noqa: B006
    pretrain_minutes: Minutes | None = None,
    sft_minutes: Minutes | None = None,
    least_change: Share = 0.0,
    until: str = "",
    set: list[str] = [],  # noqa: B006
) -> State[str]:
    """Run the chain with what is typed here; what is left empty stays as the preset has it.

    Args:
        preset: Preset below the run's config.
        yaml: A YAML file over a preset, on the worker's machine; in place of the preset above.
        name: Names the run, its dataset and its model. Empty: the preset's or the file's name.
        seeds: Addresses to crawl from. None: those of the config.
        max_pages: Pages to ask for, at most.
        crawl_again: Ask the sites again; else the last crawl is used.
        base: Folder of a model to fine-tune, on the worker's machine, for the preset finetune.
        conversations: Files of conversations, on the worker's machine.
        pretrain_minutes: Budget of pretraining.
        sft_minutes: Budget of supervised fine-tuning.
        least_change: End after curation where a smaller share of documents was added or removed
            since the newest registered version. 0 never ends a run there.
        until: Stop after this step (modelmill plan lists them). Empty: go on to the end.
        set: Further fields, each as field=value, such as select.quality.min_words=80.
    """
    fields = {
        "name": name or None,
        "scrape.seeds": seeds or None,
        "scrape.max_pages": max_pages,
        "change.least_change": least_change or None,
        "base": base or None,
        "instructions.files": conversations or None,
        "pretrain.minutes": pretrain_minutes,
        "sft.minutes": sft_minutes,
    }
    options = RunOptions(
        target=yaml or preset,
        sets=[*form_assignments(fields), *set],
        until=until or None,
        refresh=crawl_again,
        inside_flow_run=True,
        as_of=_scheduled_time(),
    )
    return _run(options)


def form_assignments(fields: Mapping[str, Any]) -> list[str]:
    """Assignments ``field=value`` of a form's fields, without those left empty (None)."""
    filled = {field: value for field, value in fields.items() if value is not None}
    sets = [f"{field}={json.dumps(value)}" for field, value in filled.items()]
    # A preset that counts steps would ignore minutes.
    budgets = [field.removesuffix(".minutes") for field in filled if field.endswith(".minutes")]
    return sets + [f"{stage}.steps=null" for stage in budgets]


def _run(options: RunOptions) -> State[str]:
    """Run the pipeline within this flow run and return its final state.

    The console is silent: Prefect's own log has a line for each step.
    """
    try:
        with shutdown.handle_signals(force=True):
            outcome = run_target(settings.load_settings(), options, Console(quiet=True))
    except MillError as error:
        return failed_state(error)
    except KeyboardInterrupt as stop:
        # Once Prefect has the state, the interpreter's shutdown takes seconds and could hang. With
        # an exit code other than 0 Prefect would take a cancelled run for a crashed one.
        atexit.register(shutdown.exit_after_stop, 0)
        return cancelled_state(stop)
    return Completed(message=_closing_line(outcome))


def _closing_line(outcome: RunOutcome) -> str:
    """One line on the end of a run."""
    if outcome.end_reason:
        return outcome.end_reason
    if outcome.stopped_after is not None:
        return f"stopped after {outcome.stopped_after}, as asked"
    notes = [result.note for result in outcome.results if result.name in ("registry", "promote")]
    return "; ".join(note for note in notes if note) or "every step is done"


def _scheduled_time() -> datetime | None:
    """Time for which this flow run was scheduled."""
    due = flow_run.scheduled_start_time
    return due if isinstance(due, datetime) else None
