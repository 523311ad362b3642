"""Run one stage on a user's own files (``modelmill stage``)."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.console import Console

from components.collect.scrape_config import ScrapeConfig
from components.core.action import Action, Workspace
from components.core.config.stage_config import StageConfig, overlay_config
from components.core.errors import ConfigError, MillError
from components.core.io.atomic_write import publish_path
from components.core.io.trash import delete_path
from components.core.process import shutdown
from components.core.settings import Settings
from components.core.store.artifact import MANIFEST_FILE, Artifact
from components.core.store.executor import ProcessExecutor
from components.core.store.store import Store
from components.core.workspace_layout import mark_layout
from flows.configs.budget_checks import refuse_stage_budget
from flows.configs.constitution_checks import try_constitutions
from flows.configs.target_config import read_target
from flows.pipelines.choose_pipeline import call_pipeline
from flows.pipelines.input_kinds import check_input_kind
from flows.pipelines.stage_roles import StageRoles, roles_of
from flows.pipelines.standalone_stages import declare_standalone_stages
from flows.runner.plan_runner import PlannedStep, PlanRunner
from flows.runner.progress_display import ProgressDisplay
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.runner import CACHED, ListenerGroup, ResultCollector, RunListener, StoreRunner


def run_stage(
    settings: Settings,
    name: str,
    inputs: Sequence[str],
    output: Path,
    sets: Sequence[str],
    preset: str,
    console: Console | None = None,
) -> dict[str, Any]:
    """Adopt the inputs, run the stage through the store, copy its result to ``output``.

    Args:
        settings: settings of the workspace, whose store keeps the result too.
        name: name of the stage.
        inputs: ``ROLE=PATH`` for each input; ``PATH`` alone where the stage has one role.
        output: new folder for the artifact.
        sets: assignments ``field=value`` over the stage's config.
        preset: preset whose config of the stage is the base.
        console: shows the progress, as for ``run``; None shows nothing.

    Raises:
        ConfigError: no such stage, an input is missing or superfluous, ``output`` exists, or
            minutes come to too few steps.
    """
    if output.exists():
        raise ConfigError(f"--output {output}: exists already; give a new folder")
    store = Store(settings.store)
    planned = _plan_stage(settings, name, preset)
    config = _resolve_source(overlay_config(planned.config, {}, sets, within=name), planned.config)
    try_constitutions(config)
    roles = roles_of(planned.component, planned.inputs)
    adopted = _adopt_inputs(settings, store, name, roles, inputs)
    refuse_stage_budget(settings, name, planned.component, config, adopted)
    collector = ResultCollector()
    displays: list[RunListener] = [] if console is None else [_StageDisplay(console)]
    try:
        with (
            shutdown.handle_signals(),
            shutdown.mark_resumable(),
            closing(ProcessExecutor()) as pool,
        ):
            listener = ListenerGroup([*displays, collector])
            runner = StoreRunner(store, Workspace(settings), executor=pool, listener=listener)
            artifact = runner.step(name, planned.component, config, **adopted)
    except MillError as error:
        raise type(error)(_name_given_paths(str(error), store, adopted, inputs)) from error
    _copy_out(store.root / artifact.name, output)
    return {
        "stage": name,
        "cached": collector.results[0].state == CACHED,
        "output": str(output),
        "digest": artifact.digest,
        "stats": artifact.stats,
    }


class _StageDisplay(ProgressDisplay):
    """Progress display that leaves no line of a failed stage: the error line is enough."""

    def failed(self, name: str, error: BaseException) -> None:
        self.stop()


def _plan_stage(settings: Settings, name: str, preset: str) -> PlannedStep:
    runner = PlanRunner(Store(settings.store))
    run = read_target(preset, (), settings, of_stage=True)
    call_pipeline(run, runner, make_source_resolver())
    declare_standalone_stages(run, runner)
    stages = {step.name: step for step in runner.steps if not isinstance(step.component, Action)}
    if name not in stages:
        raise ConfigError(f"{name}: no such stage; stages: {', '.join(stages)}")
    return stages[name]


def _resolve_source(config: StageConfig, planned: StageConfig) -> StageConfig:
    """Resolve a source's config again where ``--set`` has changed its files."""
    if not isinstance(config, ScrapeConfig) or not isinstance(planned, ScrapeConfig):
        return config
    if config.files == planned.files:
        return config.model_copy(update={"folder": planned.folder})
    return make_source_resolver()(config, [])


def _adopt_inputs(
    settings: Settings, store: Store, name: str, roles: StageRoles, inputs: Sequence[str]
) -> dict[str, Any]:
    paths: dict[str, Path] = {}
    if inputs and not roles.listing:
        raise ConfigError(
            f"--input {inputs[0]}: {name} takes no input; its config says what it looks at, such "
            "as --set files=[…] for scrape"
        )
    for entry in inputs:
        role, equals, given_path = entry.partition("=")
        if not equals:
            if len(roles.needed) != 1:
                raise ConfigError(f"--input {entry}: write ROLE=PATH; roles: {roles.listing}")
            role, given_path = next(iter(roles.needed)), entry
        if roles.kind(role) is None:
            raise ConfigError(f"--input {entry}: {name} takes {roles.listing}")
        if not Path(given_path).exists():
            raise ConfigError(f"--input {entry}: {given_path} does not exist")
        kind = roles.kind(role)
        assert kind is not None
        check_input_kind(entry, Path(given_path), role, name, kind)
        paths[role] = Path(given_path)
    missing = [role for role in roles.needed if role not in paths]
    if missing:
        options = ", ".join(f"--input {role}=PATH" for role in missing)
        raise ConfigError(f"{name}: {options} {'is' if len(missing) == 1 else 'are'} missing")
    mark_layout(settings.home)  # a refused input leaves no workspace behind
    adopted: dict[str, Any] = {}
    for role, path in paths.items():
        kind = roles.kind(role)
        assert kind is not None
        artifact = store.adopt_files(path, kind)
        outer, dot, inner = role.partition(".")
        if dot:
            adopted.setdefault(outer, {})[inner] = artifact
        else:
            adopted[role] = artifact
    return adopted


def _name_given_paths(
    message: str, store: Store, adopted: dict[str, Any], inputs: Sequence[str]
) -> str:
    """Replace the names of the store's copies in a message by the paths that the user gave."""
    paths = {role: path for role, _, path in (entry.rpartition("=") for entry in inputs)}
    artifacts = {
        f"{outer}.{inner}" if inner else outer: artifact
        for outer, value in adopted.items()
        for inner, artifact in ({"": value} if isinstance(value, Artifact) else value).items()
    }
    for role, artifact in artifacts.items():
        path = paths.get(role, paths.get("", role))
        for name in (str(store.root / artifact.name), artifact.name, Path(artifact.name).name):
            message = message.replace(name, path)
    if not inputs or any(path in message for path in paths.values()):
        return message
    return f"{message}; inputs: {', '.join(inputs)}"


def _copy_out(source: Path, output: Path) -> None:
    """Copy a folder beside its destination, then rename it: it is there whole or not at all."""
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(source, beside, copy_function=shutil.copyfile)
        for folder in [beside, *(path for path in beside.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        (beside / MANIFEST_FILE).chmod(0o644)
        publish_path(beside, output)
    finally:
        delete_path(beside)
