"""What a person does with the registry: promote a version, put a former champion back.

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
from components.publish.bento_folders import bento_of, bentos_folder, check_whole
from components.publish.promotion.alias_moves import (
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    move_back,
    move_to,
    refuse_forgotten,
)
from components.publish.promotion.approvals import decision, withdraw
from components.publish.promotion.champion_comparison import Measured
from components.publish.promotion.gates import Verdict, demand, record
from components.publish.promotion.next_commands import stays, ways_on
from components.publish.promotion.promote import (
    RULES_FILE,
    PromoteConfig,
    judge_version,
    keep_record,
    standing,
    version_of,
)
from components.publish.promotion.promotion_record import finish_earlier
from components.publish.promotion.unpromoted_version import describe_newest
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    PREVIOUS,
    Entry,
    entries,
    holder,
    measured_before,
    registry_lock,
)

_SMOKE = "smoke"
_NAMED = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)/([1-9][0-9]{0,8})")


@dataclass(frozen=True)
class Moved:
    """What promoting by hand or rolling back left behind."""

    model: str
    champion: int
    previous: int | None
    changed: bool
    note: str

    def as_json(self) -> dict[str, Any]:
        """As the command line tells it."""
        return {
            "model": self.model,
            "champion": str(self.champion),
            "previous": None if self.previous is None else str(self.previous),
            "changed": self.changed,
            "note": self.note,
        }


def promote_by_hand(
    settings: Settings, name: str, number: int, *, why: str = "", force: bool = False
) -> Moved:
    """Make a registered version the champion, judged by what is stored with it.

    Its gates are those it was judged by, else those of its model's newest judged version.

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
        finish_earlier(settings)
        found = entries(settings, name)
        entry = version_of(found, name, number)
        champion = holder(found, CHAMPION)
        if entry == champion:
            return _moved(settings, name, False, standing(entry, found))
        refuse_forgotten(entry)
        folder = _packed(settings, entry)
        facts = _judge_by_hand(settings, entry, found, champion, folder, force=force)
        move_to(settings, entry, champion, folder, facts, why=why.strip())
        withdraw(settings, name, number)
        return _moved(settings, name, True, f"champion of {name} is version {number}")


def rollback(settings: Settings, name: str, to: int | None = None, *, why: str = "") -> Moved:
    """Put a former champion back: the one before the present one, or version ``to``.

    Raises:
        ConfigError: no such model, it has no former champion, ``to`` never was one, or its Bento
            is gone.
        GateFailed: it was made of what is to be forgotten.
        MillError: the endpoint could not take it; nothing has moved.
    """
    with registry_lock(settings):
        finish_earlier(settings)
        found = entries(settings, name)
        champion = holder(found, CHAMPION)
        if champion is None:
            raise ConfigError(
                f"{name}: no champion to roll back; {describe_newest(settings, name)}"
            )
        former = holder(found, PREVIOUS) if to is None else version_of(found, name, to)
        if former is not None and to is not None and former == champion:
            return _moved(settings, name, False, standing(former, found))
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
        move_back(settings, former, champion, folder, why.strip())
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


def _packed(settings: Settings, entry: Entry) -> str:
    folder = bento_of(settings, entry)
    if folder is None:
        raise ConfigError(
            f"the Bento of {entry.model} version {entry.version} is not there (any more), so it "
            "cannot be served; run the preset that made it again, which packs it"
        )
    check_whole(bentos_folder(settings) / folder)
    return folder


def _judge_by_hand(
    settings: Settings,
    entry: Entry,
    found: Sequence[Entry],
    champion: Entry | None,
    folder: str,
    *,
    force: bool,
) -> dict[str, Any]:
    """More for the audit log: what the gates found, and whether their word was overruled.

    Raises:
        GateFailed: they refused, and it was not forced.
        DataError: the audit log is broken; ``force`` is no way around that.
    """
    facts: dict[str, Any] = {"by_hand": True}
    verdicts: list[Verdict] = []
    said = decision(settings, entry.tags.get(BUNDLE_TAG, ""), entry.model)
    try:
        config = _rules(settings, entry, found)
        measured = measured_before(settings, entry)
        smoke = settings.bentos / _SMOKE / folder
        tried = read_report(smoke) if smoke.is_dir() else {}
        figures = {**measured.figures, **{f"{_SMOKE}.{key}": tried[key] for key in tried}}
        measured = Measured(figures, measured.items)
        verdicts = judge_version(config, measured, settings, entry, champion)
        keep_record(settings, entry, config, verdicts)
        facts["gates"] = digest_value(record(verdicts))
        demand(verdicts)
        if said is not None and not said.yes:
            raise GateFailed(f"approval: {said.who} said no: {said.why}")
    except (GateFailed, ConfigError, DataError) as error:
        if not force:
            ways = ways_on(entry, [verdict for verdict in verdicts if not verdict.passes])
            raise GateFailed(f"{error}; {stays(champion)}; {ways}") from error
        facts |= {"forced": True, "refused": str(error)}
    return facts


def _rules(settings: Settings, entry: Entry, found: Sequence[Entry]) -> PromoteConfig:
    for judged in (entry, *found):
        path = judged.files(settings) / RULES_FILE
        if path.is_file():
            try:
                return PromoteConfig.model_validate_json(path.read_bytes())
            except ValidationError as error:
                raise DataError(f"{path}: these gates cannot be read") from error
    raise GateFailed(f"no version of {entry.model} was ever judged, so there are no gates for it")


def _moved(settings: Settings, name: str, changed: bool, note: str) -> Moved:
    found = entries(settings, name)
    champion, previous = holder(found, CHAMPION), holder(found, PREVIOUS)
    assert champion is not None
    return Moved(name, champion.version, previous.version if previous else None, changed, note)
