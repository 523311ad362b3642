"""Whether an action would find nothing to do: asked of the outside objects, changing none.

Each look here is what the action itself asks first. Where that would take more than reading a few
files, or an input is not known yet, only the run will tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from components.core.action import Change, Workspace
from components.core.config.env_references import resolve_references
from components.core.config.stage_config import StageConfig
from components.core.errors import MillError
from components.core.store.artifact import Artifact
from components.publish.dataset.corpus_drift import measure_change
from components.publish.dataset.push_dataset import look_for_dataset, push_dataset
from components.publish.dossier.write_dossier import look_for_dossier, write_dossier
from components.publish.promotion.promote import promote
from components.publish.registry.model_registry import TAG, entries, parse
from components.publish.registry.register import REGISTERED_TAG, find, reference, register
from serving.bento.build_bento import package
from serving.smoke_test import smoke, was_asked

Look = Callable[[Any, Mapping[str, Any], Workspace], "Change[Any] | None"]


def look(
    action: Callable[..., Any], config: StageConfig, inputs: Mapping[str, Any], workspace: Workspace
) -> Change[Any] | None:
    """What the action would leave behind and whether it would change anything; None: unknown."""
    asked = _LOOKS.get(action)
    try:
        return None if asked is None else asked(config, inputs, workspace)
    except (MillError, OSError):
        return None  # it cannot be read now; the run will say what is wrong


def _dataset(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    found = look_for_dataset(config, inputs["corpus"], workspace)
    # What another machine's remote holds would have to be asked over the network.
    return None if "://" in resolve_references(config.remote or "") else found


def _register(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    given: dict[str, Artifact] = {}
    for role, value in inputs.items():
        given.update({role: value} if isinstance(value, Artifact) else value)
    bundle = given["bundle"]
    entry = find(workspace.settings, config.name, bundle)
    if entry is None or REGISTERED_TAG not in entry.tags:
        return Change(bundle, changed=True)
    return Change(reference(workspace, entry, given), changed=False)


def _promote(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    name, number = parse(inputs["version"])
    decided = {TAG + "promoted", TAG + "rolled_back"}
    for entry in entries(workspace.settings, name):
        if entry.version == number:
            return Change(inputs["version"], changed=not decided & entry.tags.keys())
    return None


def _package(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    return package(config, **inputs, workspace=workspace, only_look=True)


def _smoke(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    bento = inputs["bento"]
    return Change(bento, changed=not was_asked(config, bento, workspace))


def _change(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    return measure_change(config, **inputs, workspace=workspace)


def _dossier(config: Any, inputs: Mapping[str, Any], workspace: Workspace) -> Change[Any] | None:
    return look_for_dossier(config, **inputs, workspace=workspace)


_LOOKS: Mapping[Callable[..., Any], Look] = {
    measure_change: _change,
    push_dataset: _dataset,
    register: _register,
    promote: _promote,
    package: _package,
    smoke: _smoke,
    write_dossier: _dossier,
}
