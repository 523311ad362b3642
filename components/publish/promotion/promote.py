"""Promotion of a registered version: a challenger that passes its gates becomes the champion.

``champion`` is served, ``previous`` is the champion before it, ``challenger`` waits. A run promotes
a version once: whoever rolls back has the last word, however often the same run is repeated. The
moves themselves, and how they survive a kill, are in ``promotion_record.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, GateFailed
from components.core.io.atomic_write import write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.settings import Settings
from components.core.store.artifact import Bento, ModelVersion, Report, canonical_json, digest_value
from components.publish.promotion.alias_moves import move_champion_to, refuse_forgotten, swap_bento
from components.publish.promotion.approvals import (
    NeedsApproval,
    PendingApproval,
    clear_pending,
    current_time,
    find_decision,
    request_approval,
)
from components.publish.promotion.champion_comparison import compare_with_champion
from components.publish.promotion.gates import (
    Comparison,
    Gate,
    GateVerdict,
    describe_refusal,
    dump_verdicts,
    judge_gates,
)
from components.publish.promotion.next_commands import describe_champion, suggest_commands
from components.publish.promotion.promotion_record import finish_interrupted
from components.publish.registry.mlflow_tables import write_aliases_and_tags
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    FORGOTTEN_TAG,
    GATES_TAG,
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    RegisteredVersion,
    find_by_alias,
    list_versions,
    parse_version,
    registry_lock,
)
from components.publish.registry.version_figures import (
    VersionFigures,
    read_run_figures,
    read_stored_figures,
)

GATES_FILE, RULES_FILE = "gates.json", "rules.json"
"""Among a version's files: what the gates found, and which gates they were."""


class PromoteConfig(StageConfig):
    """Gates that a version must pass before it is served, and the final decision."""

    gates: tuple[Gate, ...] = Field(default=(), description="floors, each on one figure")
    compare: tuple[Comparison, ...] = Field(
        default=(), description="figures held against the present champion's, by pairs"
    )
    approve: Literal["gates", "human"] = Field(
        default="gates",
        description="final decision: by the gates, or by a person after they have passed",
    )
    approve_hours: float = Field(
        default=72.0,
        gt=0,
        le=10_000,
        description="longest wait of a run for a person's decision, in hours",
    )


def dry_run_promote(
    config: PromoteConfig,
    version: ModelVersion,
    bento: Bento,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion] | None:
    """Look for a decision that a run has made on the version already.

    Args:
        config: gates and comparisons.
        version: a registered version.
        bento: Bento packed from the version.
        reports: report's role -> report.
        workspace: workspace whose registry holds the version.
    """
    name, number = parse_version(version)
    for entry in list_versions(workspace.settings, name):
        if entry.version == number:
            decided = {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys()
            return Change(version, changed=not decided)
    return None


@action(dry_run=dry_run_promote)
def promote(
    config: PromoteConfig,
    version: ModelVersion,
    bento: Bento,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion]:
    """Judge ``version`` and, if every gate lets it through, make it the champion.

    Of a champion that was packed again (the service's code has changed) only the Bento is swapped.

    Args:
        config: gates, comparisons and the final decision.
        version: a registered version.
        bento: packed from it, and has answered.
        reports: report's role -> report; the gates' figures are ``role.figure``.
        workspace: holds the registry and the endpoint.

    Raises:
        GateFailed: a gate or a person refused; nothing moves, the record is kept with the version.
            Or it was made of what is to be forgotten.
        NeedsApproval: the gates have passed and a person has the last word.
        ConfigError: the version is not registered, or a gate names a figure nobody measured.
        MillError: the endpoint could not take it; nothing has moved.
    """
    settings = workspace.settings
    name, number = parse_version(version)
    folder = workspace.artifact_folder(bento).name
    with registry_lock(settings):
        finish_interrupted(settings)
        versions = list_versions(settings, name)
        entry = find_version(versions, name, number)
        if CHAMPION in entry.aliases or {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys():
            exchanged = CHAMPION in entry.aliases and swap_bento(settings, entry, folder)
            again = f", now served from Bento {folder}" if exchanged else ""
            return Change(version, exchanged, describe_unchanged(entry, versions) + again)
        refuse_forgotten(entry)
        champion = find_by_alias(versions, CHAMPION)
        measured = read_run_figures(workspace, reports, entry)
        verdicts = judge_version(config, measured, settings, entry, champion)
        write_gate_record(settings, entry, config, verdicts)
        approval = _approved(config, settings, entry, champion, folder, measured, verdicts)
        facts = {"gates": digest_value(dump_verdicts(verdicts)), **approval}
        move_champion_to(settings, entry, champion, folder, facts)
        clear_pending(settings, name, number)
    passed = f"passed {len(verdicts)} gates" + (f", {approval['said']}" if approval else "")
    return Change(version, True, f"champion: version {number}, {passed}")


def describe_versions(settings: Settings) -> list[dict[str, Any]]:
    """Every version, newest first, as JSON: model, version, aliases, bundle digest, gates."""
    return [
        {
            "model": entry.model,
            "version": str(entry.version),
            "aliases": list(entry.aliases),
            "digest": entry.tags.get(BUNDLE_TAG, ""),
            "state": entry.tags.get(GATES_TAG, "not judged"),
            "gates": read_gate_record(settings, entry),
            "forgotten": entry.tags.get(FORGOTTEN_TAG, ""),
        }
        for entry in list_versions(settings)
    ]


def read_gate_record(settings: Settings, entry: RegisteredVersion) -> list[dict[str, Any]]:
    """The verdicts kept with a version as JSON; empty where none was given yet."""
    path = entry.files_folder(settings) / GATES_FILE
    if not path.is_file():
        return []
    verdicts: list[dict[str, Any]] = json.loads(path.read_bytes())
    return verdicts


def read_verdicts(settings: Settings, entry: RegisteredVersion) -> list[GateVerdict]:
    """The verdicts kept with a version.

    Raises:
        DataError: the record is damaged.
    """
    try:
        return [
            GateVerdict.model_validate(verdict) for verdict in read_gate_record(settings, entry)
        ]
    except (ValidationError, ValueError) as error:
        path = entry.files_folder(settings) / GATES_FILE
        raise DataError(f"{path}: this record of gates cannot be read") from error


def find_version(
    versions: Sequence[RegisteredVersion], name: str, number: int
) -> RegisteredVersion:
    """A version by its number.

    Args:
        versions: versions of one model.
        name: name of the model; named in the error.
        number: number of the version.

    Raises:
        ConfigError: there is none.
    """
    for entry in versions:
        if entry.version == number:
            return entry
    raise ConfigError(f"{name} has no version {number}; `modelmill models` lists what there is")


def describe_unchanged(entry: RegisteredVersion, versions: list[RegisteredVersion]) -> str:
    """The reason why there is nothing to do for a version."""
    if CHAMPION in entry.aliases:
        return f"champion: version {entry.version}"
    champion = find_by_alias(versions, CHAMPION)
    outcome = f"champion stays version {champion.version}" if champion else "there is no champion"
    return f"version {entry.version} was champion before; {outcome}"


def judge_version(
    config: PromoteConfig,
    measured: VersionFigures,
    settings: Settings,
    entry: RegisteredVersion,
    champion: RegisteredVersion | None,
) -> list[GateVerdict]:
    """The gates' verdicts, and those of the comparison with the champion.

    Args:
        config: gates and comparisons.
        measured: figures of the version.
        settings: names the registry, which holds the champion's figures.
        entry: version to judge.
        champion: the present one; None where there is none.

    Raises:
        ConfigError: a gate names a figure nobody measured.
    """
    verdicts = judge_gates(config.gates, measured.figures)
    if champion is not None and champion != entry:
        verdicts += compare_with_champion(
            config.compare, measured, read_stored_figures(settings, champion)
        )
    return verdicts


def write_gate_record(
    settings: Settings,
    entry: RegisteredVersion,
    config: PromoteConfig,
    verdicts: Sequence[GateVerdict],
) -> None:
    """Write verdicts and gates among the version's files; the outcome, a tag, comes last.

    Args:
        settings: workspace whose registry holds the version.
        entry: version that was judged.
        config: the gates.
        verdicts: verdicts of the gates on the version.
    """
    refused = dict.fromkeys(verdict.gate for verdict in verdicts if not verdict.passes)
    outcome = f"refused by {', '.join(refused)}" if refused else "passed"
    folder = entry.files_folder(settings)
    with explain_full_disk(settings.home):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / GATES_FILE, canonical_json(dump_verdicts(verdicts)))
        write_atomically(folder / RULES_FILE, canonical_json(config.model_dump(mode="json")))
    if entry.tags.get(GATES_TAG) != outcome:
        write_aliases_and_tags(settings, entry.model, {}, {(entry.version, GATES_TAG): outcome})


def _approved(
    config: PromoteConfig,
    settings: Settings,
    entry: RegisteredVersion,
    champion: RegisteredVersion | None,
    folder: str,
    measured: VersionFigures,
    verdicts: Sequence[GateVerdict],
) -> dict[str, Any]:
    """Facts of a person's approval for the audit log; empty where gates have the last word.

    Raises:
        GateFailed: a gate or a person refused; says what is served now, and the ways on.
        NeedsApproval: nobody has said anything yet.
    """
    named = f"{entry.model}/{entry.version}"
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        clear_pending(settings, entry.model, entry.version)
        raise GateFailed(
            f"{describe_refusal(refused)}: {named} is not promoted, {describe_champion(champion)}; "
            f"{suggest_commands(entry, refused)}"
        )
    if config.approve == "gates":
        return {}
    bundle = entry.tags.get(BUNDLE_TAG, "")
    decision = find_decision(settings, bundle, entry.model)
    if decision is None:
        pending = PendingApproval(
            model=entry.model,
            version=entry.version,
            bundle=bundle,
            bento=folder,
            champion=champion.version if champion else None,
            figures={key: f.model_dump(mode="json") for key, f in measured.figures.items()},
            verdicts=dump_verdicts(verdicts),
            hours=config.approve_hours,
            since=current_time(),
        )
        raise NeedsApproval(request_approval(settings, pending))
    if not decision.yes:
        raise GateFailed(
            f"approval: {decision.who} said no to {named} ({decision.why}): it is not promoted, "
            f"{describe_champion(champion)}; {suggest_commands(entry)}"
        )
    return {"said": f"approved by {decision.who}", "approved_because": decision.why}
