"""Decides which version is served: a challenger that passes its gates becomes the champion.

``champion`` is served, ``previous`` is the champion before it, ``challenger`` waits. A run promotes
a version once: whoever rolls back has the last word, however often the same run is repeated. What
moves, and how it survives a kill, is in ``promotion.py``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError, GateFailed
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import Bento, ModelVersion, Report, canonical, digest_value
from components.core.store.workdir import full_disk_is_one_line
from components.publish.promotion.alias_moves import (
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    exchange,
    move_to,
    refuse_forgotten,
)
from components.publish.promotion.approvals import (
    NeedsApproval,
    Pending,
    ask,
    decision,
    now,
    withdraw,
)
from components.publish.promotion.champion_comparison import Measured, compare
from components.publish.promotion.gates import Comparison, Gate, Verdict, judge, record, refusal
from components.publish.promotion.next_commands import stays, ways_on
from components.publish.promotion.promotion_record import finish_earlier
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    FORGOTTEN_TAG,
    TAG,
    Entry,
    entries,
    holder,
    measured_before,
    measured_now,
    parse,
    registry_lock,
    write,
)

GATES_TAG = TAG + "gates"
GATES_FILE, RULES_FILE = "gates.json", "rules.json"
"""Among a version's files: what the gates found, and which gates they were."""


class PromoteConfig(StageConfig):
    """What a version must show before it is served, and who has the last word."""

    gates: tuple[Gate, ...] = Field(default=(), description="floors, each on one figure")
    compare: tuple[Comparison, ...] = Field(
        default=(), description="figures held against the present champion's, by pairs"
    )
    approve: Literal["gates", "human"] = Field(
        default="gates",
        description="who has the last word: the gates, or a person after they have passed",
    )
    approve_hours: float = Field(
        default=72.0, gt=0, le=10_000, description="how long a run waits for a person's answer"
    )


def promote(
    config: PromoteConfig,
    version: ModelVersion,
    bento: Bento,
    reports: Mapping[str, Report],
    workspace: Workspace,
) -> Change[ModelVersion]:
    """Judge ``version`` and, if every gate lets it through, make it the champion.

    ``bento`` is what was packed from the version and has answered. Of a champion that was packed
    again (the service's code has changed) only the Bento is exchanged.

    Raises:
        GateFailed: a gate or a person refused; nothing moves, the record is kept with the version.
            Or it was made of what is to be forgotten.
        NeedsApproval: the gates have passed and a person has the last word.
        ConfigError: the version is not registered, or a gate names a figure nobody measured.
        MillError: the endpoint could not take it; nothing has moved.
    """
    settings = workspace.settings
    name, number = parse(version)
    folder = workspace.path(bento).name
    with registry_lock(settings):
        finish_earlier(settings)
        found = entries(settings, name)
        entry = version_of(found, name, number)
        if CHAMPION in entry.aliases or {PROMOTED_TAG, ROLLED_BACK_TAG} & entry.tags.keys():
            exchanged = CHAMPION in entry.aliases and exchange(settings, entry, folder)
            again = f", now served from Bento {folder}" if exchanged else ""
            return Change(version, exchanged, standing(entry, found) + again)
        refuse_forgotten(entry)
        champion = holder(found, CHAMPION)
        measured = measured_now(workspace, reports, entry)
        verdicts = judge_version(config, measured, settings, entry, champion)
        keep_record(settings, entry, config, verdicts)
        approval = _approved(config, settings, entry, champion, folder, measured, verdicts)
        facts = {"gates": digest_value(record(verdicts)), **approval}
        move_to(settings, entry, champion, folder, facts)
        withdraw(settings, name, number)
    passed = f"passed {len(verdicts)} gates" + (f", {approval['said']}" if approval else "")
    return Change(version, True, f"champion: version {number}, {passed}")


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


def read_verdicts(settings: Settings, entry: Entry) -> list[Verdict]:
    """The same, typed.

    Raises:
        DataError: the record is damaged.
    """
    try:
        return [Verdict.model_validate(verdict) for verdict in read_record(settings, entry)]
    except (ValidationError, ValueError) as error:
        path = entry.files(settings) / GATES_FILE
        raise DataError(f"{path}: this record of gates cannot be read") from error


def version_of(found: Sequence[Entry], name: str, number: int) -> Entry:
    """A version by its number.

    Raises:
        ConfigError: there is none.
    """
    for entry in found:
        if entry.version == number:
            return entry
    raise ConfigError(f"{name} has no version {number}; `modelmill models` lists what there is")


def standing(entry: Entry, found: list[Entry]) -> str:
    """Why there is nothing to do for a version."""
    if CHAMPION in entry.aliases:
        return f"champion: version {entry.version}"
    champion = holder(found, CHAMPION)
    kept = f"champion stays version {champion.version}" if champion else "there is no champion"
    return f"version {entry.version} was champion before; {kept}"


def judge_version(
    config: PromoteConfig,
    measured: Measured,
    settings: Settings,
    entry: Entry,
    champion: Entry | None,
) -> list[Verdict]:
    """The gates' verdicts, and those of the comparison with the champion.

    Raises:
        ConfigError: a gate names a figure nobody measured.
    """
    verdicts = judge(config.gates, measured.figures)
    if champion is not None and champion != entry:
        verdicts += compare(config.compare, measured, measured_before(settings, champion))
    return verdicts


def keep_record(
    settings: Settings, entry: Entry, config: PromoteConfig, verdicts: Sequence[Verdict]
) -> None:
    """Verdicts and gates among the version's files, and the outcome as a tag, which comes last."""
    refused = dict.fromkeys(verdict.gate for verdict in verdicts if not verdict.passes)
    outcome = f"refused by {', '.join(refused)}" if refused else "passed"
    folder = entry.files(settings)
    with full_disk_is_one_line(settings.home):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / GATES_FILE, canonical(record(verdicts)))
        write_atomically(folder / RULES_FILE, canonical(config.model_dump(mode="json")))
    if entry.tags.get(GATES_TAG) != outcome:
        write(settings, entry.model, {}, {(entry.version, GATES_TAG): outcome})


def _approved(
    config: PromoteConfig,
    settings: Settings,
    entry: Entry,
    champion: Entry | None,
    folder: str,
    measured: Measured,
    verdicts: Sequence[Verdict],
) -> dict[str, Any]:
    """What a person said, for the audit log; empty where the gates have the last word.

    Raises:
        GateFailed: a gate or a person refused; says what is served now, and the ways on.
        NeedsApproval: nobody has said anything yet.
    """
    named = f"{entry.model}/{entry.version}"
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        withdraw(settings, entry.model, entry.version)
        raise GateFailed(
            f"{refusal(refused)}: {named} is not promoted, {stays(champion)}; "
            f"{ways_on(entry, refused)}"
        )
    if config.approve == "gates":
        return {}
    bundle = entry.tags.get(BUNDLE_TAG, "")
    said = decision(settings, bundle, entry.model)
    if said is None:
        pending = Pending(
            model=entry.model,
            version=entry.version,
            bundle=bundle,
            bento=folder,
            champion=champion.version if champion else None,
            figures={key: f.model_dump(mode="json") for key, f in measured.figures.items()},
            verdicts=record(verdicts),
            hours=config.approve_hours,
            since=now(),
        )
        raise NeedsApproval(ask(settings, pending))
    if not said.yes:
        raise GateFailed(
            f"approval: {said.who} said no to {named} ({said.why}): it is not promoted, "
            f"{stays(champion)}; {ways_on(entry)}"
        )
    return {"said": f"approved by {said.who}", "approved_because": said.why}
