"""Alias and tag moves of each way to change the champion: promote, roll back, pack again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.core.errors import GateFailed
from components.core.settings import Settings
from components.publish.bento_folders import (
    bentos_folder,
    find_newest_bento,
    read_bento,
    read_latest,
)
from components.publish.promotion import audit_log
from components.publish.promotion.promotion_record import (
    PROMOTED,
    REPACKED,
    ROLLED_BACK,
    TOKEN_TAG,
    AliasMove,
    PromotionIntent,
    TagMove,
    carry_out_promotion,
    moves_endpoint,
)
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    PROMOTED_TAG,
    ROLLED_BACK_TAG,
    RegisteredVersion,
    find_by_alias,
    forgotten_orders,
    list_versions,
)


def move_champion_to(
    settings: Settings,
    entry: RegisteredVersion,
    champion: RegisteredVersion | None,
    folder: str,
    facts: Mapping[str, Any],
    why: str = "",
) -> None:
    """Make ``entry`` the champion and the one before it ``previous``.

    Args:
        settings: workspace whose registry and Bento tags are moved.
        entry: the champion-to-be.
        champion: the present one; None where there is none.
        folder: folder of the Bento that serves ``entry``.
        facts: more for the audit log.
        why: a person's reason; empty for a run.

    Raises:
        MillError: as ``carry_out_promotion``.
    """
    moves = [_alias(CHAMPION, champion, entry)]
    if champion is not None:
        former = find_by_alias(list_versions(settings, entry.model), PREVIOUS)
        moves.append(_alias(PREVIOUS, former, champion))
    if CHALLENGER in entry.aliases:
        moves.append(_alias(CHALLENGER, entry, None))
    tags = {(entry.version, PROMOTED_TAG): "true", (entry.version, ROLLED_BACK_TAG): None}
    _carry_out(settings, PROMOTED, entry, champion, folder, moves, tags, why, facts)


def move_champion_back(
    settings: Settings,
    former: RegisteredVersion,
    champion: RegisteredVersion,
    folder: str,
    why: str,
) -> None:
    """Make ``former`` the champion again and the present one ``previous``.

    Args:
        settings: workspace whose registry and Bento tags are moved.
        former: was champion before.
        champion: the present one; it is tagged as rolled back.
        folder: folder of the Bento that serves ``former``.
        why: a person's reason.

    Raises:
        MillError: as ``carry_out_promotion``.
    """
    previous = find_by_alias(list_versions(settings, former.model), PREVIOUS)
    moves = [_alias(CHAMPION, champion, former), _alias(PREVIOUS, previous, champion)]
    tags = {(champion.version, ROLLED_BACK_TAG): "true", (former.version, ROLLED_BACK_TAG): None}
    _carry_out(settings, ROLLED_BACK, former, champion, folder, moves, tags, why, {})


def swap_bento(settings: Settings, entry: RegisteredVersion, folder: str) -> bool:
    """Serve the champion from another Bento of it, unless the tag is at another model's.

    Args:
        settings: workspace whose Bento tags are moved.
        entry: the champion.
        folder: folder of the new Bento.

    Returns:
        False where it is served from there already, or another model is served.
    """
    present = read_latest(settings)
    packed = read_bento(bentos_folder(settings) / present) if present else None
    if present == folder or (packed is not None and packed.model != entry.model):
        return False
    if not moves_endpoint(settings, entry.model):
        return False
    _carry_out(settings, REPACKED, entry, entry, folder, [], {}, "", {})
    return True


def refuse_forgotten(entry: RegisteredVersion) -> None:
    """Refuse a version that was made of what is to be forgotten; force does not overrule this.

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
    entry: RegisteredVersion,
    champion: RegisteredVersion | None,
    folder: str,
    moves: Sequence[AliasMove],
    tags: Mapping[tuple[int, str], str | None],
    why: str,
    facts: Mapping[str, Any],
) -> None:
    """Write the journal of a move and carry it out; ``champion`` is the one before."""
    by_number = {e.version: e for e in list_versions(settings, entry.model)}
    present = read_latest(settings)
    former_bento = find_newest_bento(settings, champion) if champion else None
    packed = read_bento(bentos_folder(settings) / present) if present else None
    if packed and champion and packed.bundle == champion.tags.get(BUNDLE_TAG):
        former_bento = present  # the one that is served, where there are several
    intent = PromotionIntent(
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
            TagMove(version=number, key=key, before=by_number[number].tags.get(key), after=value)
            for (number, key), value in tags.items()
        ),
        by=audit_log.current_user(),
        why=why,
        facts=dict(facts),
    )
    token = TagMove(
        version=entry.version,
        key=TOKEN_TAG,
        before=entry.tags.get(TOKEN_TAG),
        after=intent.token,
    )
    carry_out_promotion(settings, intent.model_copy(update={"tags": (*intent.tags, token)}))


def _alias(
    alias: str, before: RegisteredVersion | None, after: RegisteredVersion | None
) -> AliasMove:
    return AliasMove(
        alias=alias,
        before=before.version if before else None,
        after=after.version if after else None,
    )
