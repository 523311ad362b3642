"""What moves when the champion changes: the journal's content, for each way it can change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.errors import GateFailed
from components.core.settings import Settings
from components.publish.bento_folders import bento_of, bentos_folder, latest, read_packed
from components.publish.promotion import audit_log
from components.publish.promotion.promotion_record import (
    PROMOTED,
    REPACKED,
    ROLLED_BACK,
    TOKEN_TAG,
    AliasMove,
    Intent,
    TagMove,
    carry_out,
    moves_endpoint,
)
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    TAG,
    Entry,
    entries,
    forgotten_orders,
    holder,
)

PROMOTED_TAG, ROLLED_BACK_TAG = TAG + "promoted", TAG + "rolled_back"
"""On a version that was champion, and on one that was taken off again."""


def move_to(
    settings: Settings,
    entry: Entry,
    champion: Entry | None,
    folder: str,
    facts: Mapping[str, Any],
    why: str = "",
) -> None:
    """``entry`` becomes the champion, the one before it ``previous``. Raises as ``carry_out``."""
    moves = [_alias(CHAMPION, champion, entry)]
    if champion is not None:
        former = holder(entries(settings, entry.model), PREVIOUS)
        moves.append(_alias(PREVIOUS, former, champion))
    if CHALLENGER in entry.aliases:
        moves.append(_alias(CHALLENGER, entry, None))
    tags = {(entry.version, PROMOTED_TAG): "true", (entry.version, ROLLED_BACK_TAG): None}
    _carry_out(settings, PROMOTED, entry, champion, folder, moves, tags, why, facts)


def move_back(settings: Settings, former: Entry, champion: Entry, folder: str, why: str) -> None:
    """``former`` is champion again, the present one ``previous``. Raises as ``carry_out``."""
    previous = holder(entries(settings, former.model), PREVIOUS)
    moves = [_alias(CHAMPION, champion, former), _alias(PREVIOUS, previous, champion)]
    tags = {(champion.version, ROLLED_BACK_TAG): "true", (former.version, ROLLED_BACK_TAG): None}
    _carry_out(settings, ROLLED_BACK, former, champion, folder, moves, tags, why, {})


def exchange(settings: Settings, entry: Entry, folder: str) -> bool:
    """Serve the champion from another Bento of it, unless the tag is at another model's."""
    present = latest(settings)
    packed = read_packed(bentos_folder(settings) / present) if present else None
    if present == folder or (packed is not None and packed.model != entry.model):
        return False
    if not moves_endpoint(settings, entry.model):
        return False
    _carry_out(settings, REPACKED, entry, entry, folder, [], {}, "", {})
    return True


def refuse_forgotten(entry: Entry) -> None:
    """Nobody makes a version champion that was made of what is to be forgotten, by force neither.

    Raises:
        GateFailed: it was; names the order and how to get a version without it.
    """
    orders = forgotten_orders(entry)
    if orders:
        raise GateFailed(
            f"{entry.model} version {entry.version} was made of what is to be forgotten "
            f"({', '.join(orders)}); `modelmill forget {orders[0]} --rebuild` makes one without it"
        )


def _carry_out(
    settings: Settings,
    event: str,
    entry: Entry,
    champion: Entry | None,
    folder: str,
    moves: Sequence[AliasMove],
    tags: Mapping[tuple[int, str], str | None],
    why: str,
    facts: Mapping[str, Any],
) -> None:
    """Journal and moves; ``champion`` is the one before."""
    found = {e.version: e for e in entries(settings, entry.model)}
    present = latest(settings)
    former_bento = bento_of(settings, champion) if champion else None
    packed = read_packed(bentos_folder(settings) / present) if present else None
    if packed and champion and packed.bundle == champion.tags.get(BUNDLE_TAG):
        former_bento = present  # the one that is served, where there are several
    intent = Intent(
        event=event,
        model=entry.model,
        version=entry.version,
        bento=folder,
        former=champion.version if champion else None,
        former_bento=former_bento,
        latest_before=present,
        endpoint=moves_endpoint(settings, entry.model),
        aliases=tuple(moves),
        tags=tuple(
            TagMove(version=number, key=key, before=found[number].tags.get(key), after=value)
            for (number, key), value in tags.items()
        ),
        by=audit_log.whoami(),
        why=why,
        facts=dict(facts),
    )
    token = TagMove(
        version=entry.version,
        key=TOKEN_TAG,
        before=entry.tags.get(TOKEN_TAG),
        after=intent.token,
    )
    carry_out(settings, intent.model_copy(update={"tags": (*intent.tags, token)}))


def _alias(alias: str, before: Entry | None, after: Entry | None) -> AliasMove:
    return AliasMove(
        alias=alias,
        before=before.version if before else None,
        after=after.version if after else None,
    )
