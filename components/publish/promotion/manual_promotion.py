"""Manual promotion and rollback: a person moves the champion by a command.

Neither imports MLflow, which takes seconds: a rollback is done when the old server is up.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from components.core.errors import ConfigError, DataError, GateFailed
from components.core.settings import Settings
from components.core.stats.figures import read_report
from components.core.store.artifact import digest_value
from components.publish.bento_folders import bentos_folder, check_bento_files, find_newest_bento
from components.publish.promotion.alias_moves import (
    move_champion_back,
    move_champion_to,
    refuse_forgotten,
)
from components.publish.promotion.approvals import clear_pending, find_decision
from components.publish.promotion.gates import GateVerdict, dump_verdicts, require_passed
from components.publish.promotion.next_commands import describe_champion, suggest_commands
from components.publish.promotion.promote import (
    RULES_FILE,
    PromoteConfig,
    describe_unchanged,
    find_version,
    judge_version,
    write_gate_record,
)
from components.publish.promotion.promotion_record import finish_interrupted
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS,
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    RegisteredVersion,
    find_by_alias,
    list_versions,
    registry_lock,
)
from components.publish.registry.version_figures import VersionFigures, read_stored_figures

_SMOKE = "smoke"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class PromotionResult:
    """Outcome of a manual promotion or a rollback."""

    model: str
    champion: int
    previous: int | None
    changed: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """Fields as the command line prints them."""
        return {
            "model": self.model,
            "champion": str(self.champion),
            "previous": None if self.previous is None else str(self.previous),
            "changed": self.changed,
            "note": self.note,
        }


def promote_manually(
    settings: Settings, name: str, number: int, *, why: str = "", force: bool = False
) -> PromotionResult:
    """Make a registered version the champion, judged by what is stored with it.

    Its gates are those it was judged by, else those of its model's newest judged version.

    Args:
        settings: workspace whose registry and Bentos are read and moved.
        name: the registered model.
        number: the version.
        why: the reason; the audit log keeps it.
        force: overrule the gates; needs ``why``.

    Raises:
        ConfigError: there is no such version, it has no Bento, or ``force`` came without ``why``.
        GateFailed: it was refused, or was never judged; ``force`` and ``why`` promote it all the
            same, and the audit log keeps both. Or it was made of what is to be forgotten, which
            nothing overrules.
        MillError: the endpoint could not take it; nothing has moved.
    """
    if force and not why.strip():
        raise ConfigError("--force: say --why; the audit log keeps it")
    with registry_lock(settings):
        finish_interrupted(settings)
        versions = list_versions(settings, name)
        entry = find_version(versions, name, number)
        champion = find_by_alias(versions, CHAMPION)
        if entry == champion:
            return _moved(settings, name, False, describe_unchanged(entry, versions))
        refuse_forgotten(entry)
        folder = _packed(settings, entry)
        facts = _judge_stored(settings, entry, versions, champion, folder, force=force)
        move_champion_to(settings, entry, champion, folder, facts, why=why.strip())
        clear_pending(settings, name, number)
        return _moved(settings, name, True, f"champion of {name} is version {number}")


def roll_back_champion(
    settings: Settings, name: str, to: int | None = None, *, why: str = ""
) -> PromotionResult:
    """Put a former champion back: the one before the present one, or version ``to``.

    Args:
        settings: workspace whose registry and Bentos are read and moved.
        name: the registered model.
        to: a version that was champion; None takes ``previous``.
        why: the reason; the audit log keeps it.

    Raises:
        ConfigError: no such model, it has no former champion, ``to`` never was one, or its Bento
            is gone.
        GateFailed: it was made of what is to be forgotten.
        MillError: the endpoint could not take it; nothing has moved.
    """
    with registry_lock(settings):
        finish_interrupted(settings)
        versions = list_versions(settings, name)
        champion = find_by_alias(versions, CHAMPION)
        if champion is None:
            raise ConfigError(
                f"{name}: no champion to roll back; {describe_newest(settings, name)}"
            )
        former = (
            find_by_alias(versions, PREVIOUS) if to is None else find_version(versions, name, to)
        )
        if former is not None and to is not None and former == champion:
            return _moved(settings, name, False, describe_unchanged(former, versions))
        if former is None or former == champion:
            raise ConfigError(
                f"{name}: version {champion.version} has no champion before it and stays; "
                "`modelmill models` lists the versions, `modelmill promote "
                f"{name}/VERSION` makes another one the champion"
            )
        if not {PROMOTED_TAG, ROLLED_BACK_TAG} & former.tags.keys() and to is not None:
            raise ConfigError(
                f"{name} version {to} never was champion; `modelmill promote {name}/{to}` makes it"
            )
        refuse_forgotten(former)
        folder = _packed(settings, former)
        move_champion_back(settings, former, champion, folder, why.strip())
        note = f"champion of {name} is version {former.version} again"
        return _moved(settings, name, True, note)


def parse_named(named: str) -> tuple[str, int]:
    """(model, version) of MODEL/VERSION.

    Raises:
        ConfigError: it is not written so.
    """
    match = _NAMED.fullmatch(named)
    if match is None:
        raise ConfigError(f"{named}: write MODEL/VERSION, as `modelmill models` lists them: tiny/3")
    return match[1], int(match[2])


def _packed(settings: Settings, entry: RegisteredVersion) -> str:
    folder = find_newest_bento(settings, entry)
    if folder is None:
        raise ConfigError(
            f"the Bento of {entry.model} version {entry.version} is not there (any more), so it "
            "cannot be served; run the preset that made it again, which packs it"
        )
    check_bento_files(bentos_folder(settings) / folder)
    return folder


def _judge_stored(
    settings: Settings,
    entry: RegisteredVersion,
    versions: Sequence[RegisteredVersion],
    champion: RegisteredVersion | None,
    folder: str,
    *,
    force: bool,
) -> dict[str, Any]:
    """Judge a version by what is stored with it; returns facts for the audit log.

    Raises:
        GateFailed: the gates refused, and it was not forced.
        DataError: the audit log is broken; ``force`` is no way around that.
    """
    facts: dict[str, Any] = {"by_hand": True}
    verdicts: list[GateVerdict] = []
    decision = find_decision(settings, entry.tags.get(BUNDLE_TAG, ""), entry.model)
    try:
        config = _rules(settings, entry, versions)
        measured = read_stored_figures(settings, entry)
        smoke = settings.bentos / _SMOKE / folder
        tried = read_report(smoke) if smoke.is_dir() else {}
        figures = {**measured.figures, **{f"{_SMOKE}.{key}": tried[key] for key in tried}}
        measured = VersionFigures(figures, measured.items)
        verdicts = judge_version(config, measured, settings, entry, champion)
        write_gate_record(settings, entry, config, verdicts)
        facts["gates"] = digest_value(dump_verdicts(verdicts))
        require_passed(verdicts)
        if decision is not None and not decision.yes:
            raise GateFailed(f"approval: {decision.who} said no: {decision.why}")
    except (GateFailed, ConfigError, DataError) as error:
        if not force:
            ways = suggest_commands(entry, [verdict for verdict in verdicts if not verdict.passes])
            raise GateFailed(f"{error}; {describe_champion(champion)}; {ways}") from error
        facts |= {"forced": True, "refused": str(error)}
    return facts


def _rules(
    settings: Settings, entry: RegisteredVersion, versions: Sequence[RegisteredVersion]
) -> PromoteConfig:
    for judged in (entry, *versions):
        path = judged.files_folder(settings) / RULES_FILE
        if path.is_file():
            try:
                return PromoteConfig.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise DataError(f"{path}: these gates cannot be read") from error
    raise GateFailed(f"no version of {entry.model} was ever judged, so there are no gates for it")


def _moved(settings: Settings, name: str, changed: bool, note: str) -> PromotionResult:
    versions = list_versions(settings, name)
    champion, previous = find_by_alias(versions, CHAMPION), find_by_alias(versions, PREVIOUS)
    assert champion is not None
    return PromotionResult(
        name, champion.version, previous.version if previous else None, changed, note
    )
