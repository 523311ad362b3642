"""Moves the registry's aliases: a challenger that passes its gates becomes the champion.

``champion`` is served, ``previous`` is the champion before it, ``challenger`` waits. A version is
promoted once: whoever rolls back has the last word, however often the same run is repeated.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from components.core.action import Change, Workspace
from components.core.artifact import ModelVersion, Report
from components.core.config import StageConfig
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.tracking import connect
from components.publish.gates import Comparison, Gate, Verdict, compare, demand, judge, record
from components.publish.registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    FORGOTTEN_TAG,
    PREVIOUS,
    TAG,
    Entry,
    all_figures,
    entries,
    holder,
    parse,
    registry_lock,
    stored_figures,
)

PROMOTED_TAG, ROLLED_BACK_TAG = TAG + "promoted", TAG + "rolled_back"
GATES_TAG = TAG + "gates"
GATES_FILE = "gates.json"


class PromoteConfig(StageConfig):
    """What a version must show before it is served."""

    gates: tuple[Gate, ...] = Field(default=(), description="floors, each on one figure")
    compare: tuple[Comparison, ...] = Field(
        default=(), description="figures in which it must not be worse than the present champion"
    )


def promote(
    config: PromoteConfig,
    version: ModelVersion,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion]:
    """Judge ``version`` and, if every gate lets it through, make it the champion.

    Raises:
        GateFailed: a gate refused; the aliases stay, and the record is kept with the version.
        ConfigError: the version is not registered, or a gate names a figure nobody measured.
    """
    settings = workspace.settings
    name, number = parse(version)
    with registry_lock(settings):
        found = entries(settings, name)
        entry = _version(found, name, number)
        if {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys():
            return Change(version, False, _standing(entry, found))
        champion = holder(found, CHAMPION)
        verdicts = _judge(config, entry, champion, reports, workspace)
        _keep_record(settings, entry, verdicts)
        demand(verdicts)
        _move(settings, entry, champion)
    passed = f"passed {len(verdicts)} gates"
    return Change(version, True, f"champion: version {number}, {passed}")


def rollback(settings: Settings, name: str) -> str:
    """Put the former champion back; returns its version.

    Raises:
        ConfigError: no such model, or it has no former champion.
    """
    with registry_lock(settings):
        found = entries(settings, name)
        champion, former = holder(found, CHAMPION), holder(found, PREVIOUS)
        if champion is None:
            known = sorted({entry.model for entry in entries(settings)})
            raise ConfigError(f"{name}: no champion; models: {', '.join(known) or 'none yet'}")
        if former is None or former == champion:
            raise ConfigError(f"{name}: version {champion.version} has no champion before it")
        client = connect(settings)
        client.set_model_version_tag(name, str(champion.version), ROLLED_BACK_TAG, "true")
        client.set_registered_model_alias(name, CHAMPION, str(former.version))
        client.set_registered_model_alias(name, PREVIOUS, str(champion.version))
    return str(former.version)


def aliases(settings: Settings, name: str) -> dict[str, str]:
    """alias -> version of one model."""
    return {
        alias: str(entry.version) for entry in entries(settings, name) for alias in entry.aliases
    }


def list_versions(settings: Settings) -> list[dict[str, Any]]:
    """Every registered version, newest first: model, version, aliases, bundle digest, gates."""
    return [
        {
            "model": entry.model,
            "version": str(entry.version),
            "aliases": list(entry.aliases),
            "digest": entry.tags.get(BUNDLE_TAG, ""),
            "state": entry.tags.get(GATES_TAG, "not judged"),
            "gates": read_record(settings, entry),
            "forgotten": entry.tags.get(FORGOTTEN_TAG, ""),
        }
        for entry in entries(settings)
    ]


def read_record(settings: Settings, entry: Entry) -> list[dict[str, Any]]:
    """The verdicts kept with a version; empty where none was given yet."""
    path = entry.files(settings) / GATES_FILE
    if not path.is_file():
        return []
    kept: list[dict[str, Any]] = json.loads(path.read_bytes())
    return kept


def _version(found: Sequence[Entry], name: str, number: int) -> Entry:
    for entry in found:
        if entry.version == number:
            return entry
    raise ConfigError(f"{name} has no version {number}; `modelmill models` lists what there is")


def _standing(entry: Entry, found: list[Entry]) -> str:
    if CHAMPION in entry.aliases:
        return f"champion: version {entry.version}"
    champion = holder(found, CHAMPION)
    kept = f"champion stays version {champion.version}" if champion else "there is no champion"
    return f"version {entry.version} was champion before; {kept}"


def _judge(
    config: PromoteConfig,
    entry: Entry,
    champion: Entry | None,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> list[Verdict]:
    figures = all_figures(workspace, reports)
    verdicts = judge(config.gates, figures)
    if champion is not None and champion != entry:
        former = stored_figures(workspace.settings, champion)
        verdicts += compare(config.compare, figures, former)
    return verdicts


def _keep_record(settings: Settings, entry: Entry, verdicts: Sequence[Verdict]) -> None:
    """``gates.json`` among the version's files, and the outcome as a tag."""
    kept = record(verdicts)
    refused = [verdict.gate for verdict in verdicts if not verdict.passes]
    outcome = f"refused by {', '.join(refused)}" if refused else "passed"
    if entry.tags.get(GATES_TAG) == outcome and read_record(settings, entry) == kept:
        return
    client = connect(settings)
    with tempfile.TemporaryDirectory(dir=settings.mlflow) as folder:
        path = Path(folder, GATES_FILE)
        path.write_text(json.dumps(kept, indent=1, sort_keys=True), encoding="utf-8")
        client.log_model_artifact(entry.source.removeprefix("models:/"), str(path))
    client.set_model_version_tag(entry.model, str(entry.version), GATES_TAG, outcome)


def _move(settings: Settings, entry: Entry, champion: Entry | None) -> None:
    """The tag comes last: killed before it, the next call moves the same aliases again."""
    client, name, number = connect(settings), entry.model, str(entry.version)
    if champion is not None and champion != entry:
        client.set_registered_model_alias(name, PREVIOUS, str(champion.version))
    client.set_registered_model_alias(name, CHAMPION, number)
    if CHALLENGER in entry.aliases:
        client.delete_registered_model_alias(name, CHALLENGER)
    client.set_model_version_tag(name, number, PROMOTED_TAG, "true")
