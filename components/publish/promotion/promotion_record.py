"""Crash-safe promotion: registry, Bento tag and running endpoint move together or not at all.

``<home>/promotion.json`` is the journal of the one promotion (or rollback) that is under way:

    1. journal      what moves, from where to where, who and why; on the disk before anything else
    2. prepare      a running endpoint's manager starts the new server and says it is ready
    3. aliases      champion, previous, challenger and the tags, in one transaction of the registry
    4. tag          the Bento tag ``latest``
    5. switch       the endpoint's requests go to the new server
    6. audit        one entry
    7. the journal is removed

Killed before 3, nothing has moved, and the next command takes it back; killed after it, the next
command completes it (``recover_promotion``). Every step may be done twice. A step that fails is
taken back in the same way, from the journal.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from components.core.errors import DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.log import get_logger
from components.core.settings import Settings
from components.core.store.artifact import canonical_json
from components.publish import bento_folders
from components.publish.promotion import audit_log
from components.publish.promotion.endpoint_swap import EndpointSwap, ServedModel
from components.publish.registry import mlflow_tables, model_registry

TOKEN_TAG = model_registry.TAG + "promotion"
"""On a version that was moved to: which journal moved it there last."""
PROMOTED, ROLLED_BACK, REPACKED, ABANDONED = "promoted", "rolled back", "repacked", "abandoned"
"""Events of the audit log."""
READY_SECONDS, SWITCH_SECONDS = 60.0, 30.0
"""Longest waits for the endpoint's manager: loading a model, handing over to it."""
log = get_logger(__name__)
_CUT_OFF = "it was cut off before anything had moved"


class AliasMove(BaseModel):
    """One alias, from one version to another; None is no version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    alias: str
    before: int | None
    after: int | None


class TagMove(BaseModel):
    """One tag of one version, from one value to another; None is no tag."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    key: str
    before: str | None
    after: str | None


class PromotionIntent(BaseModel):
    """The journal: everything needed to complete a promotion or to take it back."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str = Field(default_factory=lambda: uuid.uuid4().hex)
    event: str
    model: str
    version: int
    """The champion-to-be."""
    bento: str
    """Folder of its Bento."""
    former: int | None
    """The champion before."""
    former_bento: str | None
    latest_before: str | None
    """The Bento that the tag named before."""
    endpoint: bool
    """Tag and endpoint move along: not while the endpoint serves another model."""
    aliases: tuple[AliasMove, ...]
    tags: tuple[TagMove, ...]
    by: str
    why: str
    facts: dict[str, Any] = Field(default_factory=dict)
    """More for the audit log: the gates' digest, an approval."""
    back: str = ""
    """Reason why it is being taken back; empty while it goes forward."""

    @property
    def served(self) -> ServedModel:
        """The model that the endpoint is to serve."""
        return ServedModel(self.model, str(self.version), self.bento)

    @property
    def served_before(self) -> ServedModel | None:
        """The model that it served; None where it served none."""
        if self.former is None or self.former_bento is None:
            return None
        return ServedModel(self.model, str(self.former), self.former_bento)

    @property
    def noun(self) -> str:
        """The promotion as a sentence names it."""
        action = "rollback" if self.event == ROLLED_BACK else "promotion"
        return f"{action} of {self.model} to version {self.version}"


def moves_endpoint(settings: Settings, model: str) -> bool:
    """True where tag and endpoint go along: a running endpoint of another model is left alone."""
    status = EndpointSwap(settings).read_status()
    return status is None or status.follows(model)


def carry_out_promotion(settings: Settings, intent: PromotionIntent) -> None:
    """Take all steps of a promotion.

    The caller holds the registry's lock and has called ``finish_interrupted``.

    Raises:
        MillError: a step could not be done; nothing has moved, or all of it was moved back.
    """
    audit_log.check_end(settings)
    with explain_full_disk(settings.home):
        _write(settings, intent)
        _after_step("journal")
        try:
            if intent.endpoint and EndpointSwap(settings).is_running():
                EndpointSwap(settings).prepare(intent.served, READY_SECONDS)
            _after_step("prepare")
        except MillError as error:
            _take_back(settings, intent, str(error))
            raise type(error)(f"{error}; nothing has moved") from error
        _go_forward(settings, intent)


def recover_promotion(settings: Settings, *, wait: bool = True) -> str | None:
    """Finish what a kill cut off; returns what was done, or None where there was nothing.

    Call it before the endpoint's manager begins, or from another process: it asks the manager.
    Without ``wait``, a promotion that another process is at work on is left to it.

    Raises:
        DataError: the journal or the audit log is damaged.
        MillError: it could be neither completed nor taken back; the message says why.
    """
    if not _path(settings).exists():
        return None
    if wait:
        with model_registry.registry_lock(settings):
            return finish_interrupted(settings)
    with model_registry.try_registry_lock(settings) as free:
        return finish_interrupted(settings) if free else None


def finish_interrupted(settings: Settings) -> str | None:
    """``recover_promotion`` for a caller that holds the registry's lock."""
    intent = _read(settings)
    if intent is None:
        return None
    done = _finish(settings, intent)
    log.warning("%s", done)
    return done


def _finish(settings: Settings, intent: PromotionIntent) -> str:
    with explain_full_disk(settings.home):
        if intent.back or not _has_moved(settings, intent):
            _take_back(settings, intent, intent.back or _CUT_OFF)
            return f"the {intent.noun}, which was cut off, is taken back"
        try:
            _go_forward(settings, intent, completed=True)
        except MillError as error:
            if _path(settings).exists():
                raise
            return str(error)
    return f"the {intent.noun}, which was cut off, is completed"


def _go_forward(settings: Settings, intent: PromotionIntent, *, completed: bool = False) -> None:
    """From the aliases on; a step that cannot be done takes everything back.

    Raises:
        MillError: it was taken back.
    """
    steps: tuple[tuple[str, Callable[[], None]], ...] = (
        ("aliases", lambda: _move_aliases(settings, intent)),
        ("tag", lambda: _move_tag(settings, intent)),
        ("switch", lambda: _switch(settings, intent)),
    )
    for name, step in steps:
        try:
            step()
        except MillError as error:
            _take_back(settings, intent, str(error))
            raise type(error)(f"{error}; the {intent.noun} is taken back") from error
        _after_step(name)
    notes = {"completed_later": True} if completed else {}
    _log_event(settings, intent, intent.event, **intent.facts, **notes)
    _after_step("audit")
    _path(settings).unlink()
    _after_step("end")


def _take_back(settings: Settings, intent: PromotionIntent, reason: str) -> None:
    """Undo whatever was done, journalled too: killed, the next command goes on taking it back."""
    intent = intent.model_copy(update={"back": reason})
    _write(settings, intent)
    _after_step("back")
    if _has_moved(settings, intent):
        mlflow_tables.write_aliases_and_tags(
            settings,
            intent.model,
            {move.alias: move.before for move in intent.aliases},
            {(move.version, move.key): move.before for move in intent.tags},
        )
    _after_step("aliases back")
    if intent.endpoint:
        if bento_folders.read_latest(settings) != intent.latest_before:
            bento_folders.tag_latest(settings, intent.latest_before)
        _after_step("tag back")
        _endpoint_back(settings, intent)
    _after_step("endpoint back")
    _log_event(settings, intent, ABANDONED, attempt=intent.event, reason=reason)
    _after_step("audit back")
    _path(settings).unlink(missing_ok=True)


def _endpoint_back(settings: Settings, intent: PromotionIntent) -> None:
    """The former server takes the requests again; the new one is stopped."""
    swap = EndpointSwap(settings)
    if not swap.is_running():
        return
    former, status = intent.served_before, swap.read_status()
    if former is not None and status is not None and status.serving == intent.served:
        swap.switch(former, READY_SECONDS)
    if former != intent.served:
        swap.drop(intent.served)


def _has_moved(settings: Settings, intent: PromotionIntent) -> bool:
    versions = model_registry.list_versions(settings, intent.model)
    return any(
        entry.version == intent.version and entry.tags.get(TOKEN_TAG) == intent.token
        for entry in versions
    )


def _move_aliases(settings: Settings, intent: PromotionIntent) -> None:
    mlflow_tables.write_aliases_and_tags(
        settings,
        intent.model,
        {move.alias: move.after for move in intent.aliases},
        {(move.version, move.key): move.after for move in intent.tags},
    )


def _move_tag(settings: Settings, intent: PromotionIntent) -> None:
    if intent.endpoint:
        bento_folders.tag_latest(settings, intent.bento)


def _switch(settings: Settings, intent: PromotionIntent) -> None:
    if intent.endpoint:
        EndpointSwap(settings).switch(intent.served, SWITCH_SECONDS)


def _log_event(settings: Settings, intent: PromotionIntent, event: str, /, **facts: Any) -> None:
    about = {"model": intent.model, "version": intent.version, "bento": intent.bento}
    from_where = {"former": intent.former, "former_bento": intent.former_bento}
    reason = {"by": intent.by, "why": intent.why}
    audit_log.append_entry_once(
        settings, intent.token, event, **about, **from_where, **reason, **facts
    )


def _after_step(step: str) -> None:
    """Hook after each step: a test ends the process here."""


def _path(settings: Settings) -> Path:
    return settings.home / "promotion.json"


def _write(settings: Settings, intent: PromotionIntent) -> None:
    write_atomically(_path(settings), canonical_json(intent.model_dump(mode="json")))


def _read(settings: Settings) -> PromotionIntent | None:
    path = _path(settings)
    try:
        return PromotionIntent.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(
            f"{path}: the journal of a promotion cannot be read; see what is champion with "
            "`modelmill models`, then delete the file"
        ) from error
