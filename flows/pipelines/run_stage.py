"""``modelmill stage``: one stage on a user's own files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, get_origin, get_type_hints

from rich.console import Console

from components.collect.scrape import ScrapeConfig
from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig, overlay
from components.core.errors import ConfigError, MillError
from components.core.process import shutdown
from components.core.settings import Settings
from components.core.store.artifact import MANIFEST, Artifact
from components.core.store.executor import Pool
from components.core.store.store import Store, remove
from flows.configs.budget_checks import refuse_stage
from flows.configs.constitution_checks import try_judges
from flows.pipelines.input_kinds import check_kind
from flows.pipelines.stage_roles import Roles, roles_of
from flows.pipelines.standalone_stages import beside
from flows.pipelines.text import text
from flows.runner.plan_runner import PlanMill, Planned
from flows.runner.progress_display import Display
from flows.runner.run_pipeline import read_target, resolver
from flows.runner.run_records import Several
from flows.runner.runner import CACHED, Listener, Silent, StoreMill


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
        console: where the stage is shown at work, as ``run`` shows it; None shows nothing.

    Raises:
        ConfigError: no such stage, an input is missing or superfluous, ``output`` exists, or
            minutes come to too few steps.
    """
    if output.exists():
        raise ConfigError(f"--output {output}: exists already; give a new folder")
    store = Store(settings.store)
    planned = _find(settings, name, preset)
    config = _fixed(overlay(planned.config, {}, sets, within=name), planned.config)
    try_judges(config)
    roles = roles_of(planned.component, planned.inputs)
    given = _adopt(store, name, roles, inputs)
    refuse_stage(settings, name, planned.component, config, given)
    silent = Silent()
    shown: list[Listener] = [] if console is None else [_StageDisplay(console)]
    try:
        with shutdown.listening(), shutdown.resumable(), closing(Pool()) as pool:
            listener = Several([*shown, silent])
            mill = StoreMill(store, Workspace(settings), executor=pool, listener=listener)
            artifact = mill.step(name, planned.component, config, **given)
    except MillError as error:
        raise type(error)(_as_given(str(error), store, given, inputs)) from error
    _copy_out(store.root / artifact.name, output)
    return {
        "stage": name,
        "cached": silent.results[0].state == CACHED,
        "output": str(output),
        "digest": artifact.digest,
        "stats": artifact.stats,
    }


class _StageDisplay(Display):
    """Of a stage that failed nothing is left but the line that says why."""

    def failed(self, name: str, error: BaseException) -> None:
        self.stop()


def _find(settings: Settings, name: str, preset: str) -> Planned:
    mill = PlanMill(Store(settings.store))
    run = read_target(preset, (), settings)
    text(run, mill, resolver())
    beside(run, mill)
    stages = [
        step
        for step in mill.steps
        if get_origin(get_type_hints(step.component)["return"]) is not Change
    ]
    check = {step.name: step for step in stages}
    if name not in check:
        raise ConfigError(f"{name}: no such stage; stages: {', '.join(check)}")
    return check[name]


def _fixed(config: StageConfig, planned: StageConfig) -> StageConfig:
    """A source's config with the files it will look at, which ``--set`` may have changed."""
    if not isinstance(config, ScrapeConfig) or not isinstance(planned, ScrapeConfig):
        return config
    if config.files == planned.files:
        return config.model_copy(update={"folder": planned.folder})
    return resolver()(config, [])


def _adopt(store: Store, name: str, roles: Roles, inputs: Sequence[str]) -> dict[str, Any]:
    paths: dict[str, Path] = {}
    if inputs and not roles.named:
        raise ConfigError(
            f"--input {inputs[0]}: {name} takes no input; its config says what it looks at, such "
            "as --set files=[…] for scrape"
        )
    for entry in inputs:
        role, equals, given_path = entry.partition("=")
        if not equals:
            if len(roles.needed) != 1:
                raise ConfigError(f"--input {entry}: write ROLE=PATH; roles: {roles.named}")
            role, given_path = next(iter(roles.needed)), entry
        if roles.kind(role) is None:
            raise ConfigError(f"--input {entry}: {name} takes {roles.named}")
        if not Path(given_path).exists():
            raise ConfigError(f"--input {entry}: {given_path} does not exist")
        kind = roles.kind(role)
        assert kind is not None
        check_kind(entry, Path(given_path), role, name, kind)
        paths[role] = Path(given_path)
    missing = [role for role in roles.needed if role not in paths]
    if missing:
        asked = ", ".join(f"--input {role}=PATH" for role in missing)
        raise ConfigError(f"{name}: {asked} {'is' if len(missing) == 1 else 'are'} missing")
    given: dict[str, Any] = {}
    for role, path in paths.items():
        kind = roles.kind(role)
        assert kind is not None
        artifact = store.adopt(path, kind)
        outer, dot, inner = role.partition(".")
        if dot:
            given.setdefault(outer, {})[inner] = artifact
        else:
            given[role] = artifact
    return given


def _as_given(message: str, store: Store, given: dict[str, Any], inputs: Sequence[str]) -> str:
    """A message about the store's copy of an input names the path that the user gave."""
    paths = {role: path for role, _, path in (entry.rpartition("=") for entry in inputs)}
    adopted = {
        f"{outer}.{inner}" if inner else outer: artifact
        for outer, value in given.items()
        for inner, artifact in ({"": value} if isinstance(value, Artifact) else value).items()
    }
    for role, artifact in adopted.items():
        path = paths.get(role, paths.get("", role))
        for name in (str(store.root / artifact.name), artifact.name, Path(artifact.name).name):
            message = message.replace(name, path)
    if not inputs or any(path in message for path in paths.values()):
        return message
    return f"{message}; inputs: {', '.join(inputs)}"


def _copy_out(source: Path, output: Path) -> None:
    """Whole or not at all: copied beside, then renamed."""
    output.parent.mkdir(parents=True, exist_ok=True)
    beside = output.with_name(f".{output.name}.{os.getpid()}.tmp")
    try:
        shutil.copytree(source, beside, copy_function=shutil.copyfile)
        for folder in [beside, *(path for path in beside.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)
        (beside / MANIFEST).chmod(0o644)
        beside.rename(output)
    finally:
        remove(beside)
