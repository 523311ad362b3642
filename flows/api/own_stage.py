"""One stage of a Python caller, Modelmill's or its own, run into the store."""

from __future__ import annotations

import functools
import inspect
import sys
import types
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from components.collect.scrape_config import ScrapeConfig
from components.core.action import Action, Workspace
from components.core.config.stage_config import StageConfig, overlay_config
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.store.artifact import Artifact, component_name
from components.core.store.executor import Executor, InlineExecutor, ProcessExecutor
from components.core.store.store import CODE_FILE, Store
from components.core.store.workdir import Workdir
from components.core.workspace_layout import mark_layout
from flows.api.caller_words import name_fields_alone
from flows.api.library_run import make_console
from flows.api.own_code import OwnCodeIndex, is_first_party
from flows.api.own_thread import call_beside_loop
from flows.api.run_source import assignments_of
from flows.api.stored_artifact import StoredArtifact, find_artifact
from flows.configs.budget_checks import refuse_stage_budget
from flows.configs.constitution_checks import try_constitutions
from flows.pipelines.input_kinds import KIND_FILES, REQUIRED_FILES, check_input_kind
from flows.runner.progress_display import ProgressDisplay
from flows.runner.run_pipeline import make_source_resolver
from flows.runner.runner import StoreRunner

StageInput = Artifact | StoredArtifact | str | Path
Component = Callable[..., Artifact]
C = TypeVar("C", bound=StageConfig)
_CONFIG, _WORK = "config", "work"


@dataclass(frozen=True)
class StageCall:
    """Arguments of ``modelmill.stage``."""

    function: Component
    config: StageConfig | Mapping[str, Any] | None = None
    inputs: Mapping[str, StageInput | Mapping[str, StageInput]] = field(default_factory=dict)
    name: str = ""
    show: bool = False


@dataclass(frozen=True)
class _Signature:
    """Parameters of a stage: the class of its config, and role -> kinds of artifact."""

    config: type[StageConfig]
    roles: dict[str, type[Artifact]]
    optional: frozenset[str]
    several: frozenset[str]
    """Roles that take a mapping of artifacts."""
    made: type[Artifact]


def run_own_stage(settings: Settings, call: StageCall) -> StoredArtifact:
    """Run a stage in the caller's thread, or beside the event loop that runs there.

    Raises:
        ConfigError: the function is no stage or cannot be keyed, or config or inputs do not fit.
        MillError: the stage failed.
    """
    if not isinstance(call.name, str):
        raise ConfigError(f"name: given {call.name!r}: must be a text")
    name = call.name or getattr(call.function, "__name__", "stage")
    signature = _read_signature(call.function)
    config = _make_config(signature.config, call.config)
    store = Store(settings.store, OwnCodeIndex(memory=settings.store / CODE_FILE))
    try_constitutions(config)
    store.code.code_parts(call.function, config)  # before anything is copied or written
    inputs = _find_inputs(settings, store, name, signature, call.inputs)
    refuse_stage_budget(settings, name, call.function, config, inputs)
    mark_layout(settings.home)

    def work() -> StoredArtifact:
        display = ProgressDisplay(make_console(call.show))
        with closing(_make_executor(call.function)) as executor:
            runner = StoreRunner(store, Workspace(settings), executor=executor, listener=display)
            component = _check_result(call.function, name, signature.made)
            if isinstance(config, ScrapeConfig):
                made = runner.source(name, component, config, make_source_resolver())
            else:
                made = runner.step(name, component, config, **inputs)
        store.code.save_memory()
        return StoredArtifact(made, store.root)

    return call_beside_loop(work)


def _read_signature(function: Component) -> _Signature:
    """Parameters of a stage.

    Raises:
        ConfigError: the function is none; says what is missing.
    """
    name = getattr(function, "__qualname__", repr(function))
    if isinstance(function, Action):
        raise ConfigError(f"{name}: is an action, which changes more than the store: runs call it")
    if not isinstance(function, types.FunctionType) or function.__name__ == "<lambda>":
        raise ConfigError(f"{name}: is no function with a name (def), which a stage's key needs")
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError) as error:
        raise ConfigError(f"{name}: an annotation cannot be read: {error}") from error
    parameters = inspect.signature(function).parameters
    config, made = hints.get(_CONFIG), hints.get("return")
    if not (isinstance(config, type) and issubclass(config, StageConfig) and _WORK in parameters):
        raise ConfigError(
            f"{name}: a stage takes `config` (a StageConfig), its inputs and `work` (a Workdir), "
            "each annotated"
        )
    if not (isinstance(made, type) and issubclass(made, Artifact)):
        raise ConfigError(f"{name}: its return is not annotated as a kind of Artifact")
    if made is Artifact:
        raise ConfigError(f"{name}: its return is annotated as Artifact: name its kind, as Report")
    roles: dict[str, type[Artifact]] = {}
    for role in parameters:
        kinds = [k for k in (hints.get(role), *get_args(hints.get(role))) if _is_kind(k)]
        if role not in (_CONFIG, _WORK) and not kinds:
            raise ConfigError(f"{name}: {role} is not annotated as a kind of Artifact")
        roles |= {role: kinds[0]} if kinds else {}
    optional = {role for role, p in parameters.items() if p.default is not inspect.Parameter.empty}
    several = {role for role in roles if _takes_mapping(hints[role])}
    return _Signature(config, roles, frozenset(optional), frozenset(several), made)


def _is_kind(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Artifact)


def _takes_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _make_config(kind: type[C], given: StageConfig | Mapping[str, Any] | None) -> StageConfig:
    if isinstance(given, StageConfig):
        if not isinstance(given, kind):
            raise ConfigError(f"config: given {type(given).__name__}: must be a {kind.__name__}")
        return given
    try:
        base = kind()
    except ValueError as error:
        raise ConfigError(
            f"config: {kind.__name__} has fields without a default: give one made of its class"
        ) from error
    sets = assignments_of(given, "config")
    with name_fields_alone(sets):
        return overlay_config(base, {}, sets)


def _find_inputs(
    settings: Settings,
    store: Store,
    stage: str,
    signature: _Signature,
    given: Mapping[str, StageInput | Mapping[str, StageInput]],
) -> dict[str, Any]:
    """Artifacts by role, folders copied into the store.

    Raises:
        ConfigError: a role is missing or unknown, or an input is of another kind.
    """
    listing = ", ".join(signature.roles) or "no input"
    for role in given:
        if role not in signature.roles:
            raise ConfigError(f"{stage}: has no input {role}; it takes {listing}")
    missing = [r for r in signature.roles if r not in given and r not in signature.optional]
    if missing:
        raise ConfigError(f"{stage}: {', '.join(missing)} missing; it takes {listing}")

    for role, value in given.items():
        if role in signature.several and not isinstance(value, Mapping):
            raise ConfigError(
                f"{stage}: {role} takes several: give a mapping, {role}={{NAME: ARTIFACT}}"
            )
        if role not in signature.several and isinstance(value, Mapping):
            raise ConfigError(f"{stage}: {role} takes one artifact, and was given a mapping")
        if isinstance(value, Mapping) and not all(isinstance(inner, str) for inner in value):
            raise ConfigError(f"{stage}: {role}: the names of its artifacts must be texts")

    def find(role: str, value: StageInput) -> Artifact:
        kind = signature.roles[role.partition(".")[0]]
        if isinstance(value, Path):
            return _adopt_folder(store, stage, role, value, kind)
        found = find_artifact(settings, value).reference if isinstance(value, str) else value
        artifact = found.reference if isinstance(found, StoredArtifact) else found
        if not isinstance(artifact, kind):
            shown = getattr(type(artifact), "format", type(artifact).__name__)
            raise ConfigError(f"{stage}: {role} must be of kind {kind.format}, and is {shown}")
        if not (store.root / artifact.name).is_dir():
            raise ConfigError(f"{stage}: {role}: {artifact.name} is not in {store.root}")
        return artifact

    return {
        role: {name: find(f"{role}.{name}", inner) for name, inner in value.items()}
        if isinstance(value, Mapping)
        else find(role, value)
        for role, value in given.items()
    }


def _adopt_folder(
    store: Store, stage: str, role: str, path: Path, kind: type[Artifact]
) -> Artifact:
    if not path.exists():
        raise ConfigError(f"{stage}: {role}: {path} does not exist")
    try:
        check_input_kind(f"{role}={path}", path, role, stage, kind)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("--input ")) from error
    mark_layout(store.root.parent)
    return store.adopt_files(path, kind)


def _make_executor(function: Component) -> Executor:
    """Worker processes, where they can import the function; else this process."""
    module = sys.modules.get(function.__module__)
    spec = getattr(module, "__spec__", None)
    is_importable = function.__module__ != "__main__" and getattr(spec, "origin", None) is not None
    if is_first_party(function.__module__) or is_importable:
        return ProcessExecutor()
    return InlineExecutor()


def _check_result(function: Component, name: str, kind: type[Artifact]) -> Component:
    """The function, refusing a result that no ``work.seal`` made, or without its kind's files."""

    @functools.wraps(function)
    def checked(*arguments: Any, work: Workdir, **inputs: Any) -> Artifact:
        if not is_first_party(function.__module__):  # which know what they seal
            work.required_files = KIND_FILES.get(kind) or REQUIRED_FILES.get(kind, ())
        made = function(*arguments, **inputs, work=work)
        if not isinstance(made, Artifact):
            raise ConfigError(
                f"{name}: returned {type(made).__name__}: return what work.seal(KIND) gives"
            )
        return made

    assert component_name(checked) == component_name(function)
    return checked
