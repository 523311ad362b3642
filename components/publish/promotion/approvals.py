"""A person's word before a promotion: what waits for it, and what was said.

What waits lies in ``<home>/approvals``, a file a version. What was said is in the audit log, by
the digest of the bundle: that is where a promotion looks, so nothing but the log can let one pass.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from components.core.errors import ConfigError, DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.settings import Settings
from components.core.store.artifact import canonical
from components.core.store.workdir import full_disk_is_one_line
from components.publish.promotion import audit_log
from components.publish.promotion.alias_moves import refuse_forgotten
from components.publish.registry.model_registry import entries

APPROVED, REJECTED = "approved", "rejected"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Pending(BaseModel):
    """A version whose gates have passed and that waits for a person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    version: int
    bundle: str
    """Digest of the bundle: what is decided on."""
    bento: str
    """Folder of the Bento that will be served."""
    champion: int | None
    """The champion that it would follow."""
    figures: dict[str, dict[str, Any]]
    """``report.figure`` -> value, interval, unit."""
    verdicts: list[dict[str, Any]]
    """What every gate found."""
    hours: float
    """How long a run waits for an answer."""
    since: str
    """UTC, ISO 8601."""
    flow_run_id: str | None = None
    """The Prefect flow run that is paused for it."""

    @property
    def named(self) -> str:
        """As a person types it."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class Decision:
    """What was said."""

    yes: bool
    who: str
    why: str
    time: str


class NeedsApproval(MillError):
    """The gates have passed; a person has the last word. Carries what waits."""

    def __init__(self, pending: Pending) -> None:
        super().__init__(
            f"{pending.named} waits for a person: "
            f"modelmill approve {pending.named} --yes|--no --why TEXT"
        )
        self.pending = pending

    def __reduce__(self) -> tuple[type[NeedsApproval], tuple[Pending]]:
        return NeedsApproval, (self.pending,)


def ask(settings: Settings, pending: Pending) -> Pending:
    """Write down that ``pending`` waits; since when, and for which flow run, stay as they are."""
    earlier = _read(_path(settings, pending.model, pending.version))
    if earlier is not None and earlier.bundle == pending.bundle:
        kept = {
            "since": earlier.since,
            "flow_run_id": pending.flow_run_id or earlier.flow_run_id,
        }
        pending = pending.model_copy(update=kept)
    path = _path(settings, pending.model, pending.version)
    with full_disk_is_one_line(settings.home):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, canonical(pending.model_dump(mode="json")))
    return pending


def waiting(settings: Settings) -> list[Pending]:
    """Everything that waits, the oldest first."""
    found = (_read(path) for path in _folder(settings).glob("*.json"))
    return sorted((pending for pending in found if pending), key=lambda pending: pending.since)


def pending_of(settings: Settings, model: str, version: int) -> Pending:
    """What waits under this name.

    Raises:
        ConfigError: nothing does; names what does.
    """
    found = _read(_path(settings, model, version))
    if found is None:
        names = ", ".join(pending.named for pending in waiting(settings)) or "nothing"
        raise ConfigError(f"{model}/{version} does not wait for approval; waiting: {names}")
    return found


def decide(settings: Settings, pending: Pending, yes: bool, who: str, why: str) -> Decision:
    """Take down a person's word in the audit log; ``who`` is whose word it is, empty the user's.

    Raises:
        ConfigError: no reason was given, or it was decided already.
        GateFailed: a yes to what was made of something that is to be forgotten.
    """
    if not why.strip():
        raise ConfigError("--why: say why; the audit log keeps it")
    earlier = decision(settings, pending.bundle, pending.model)
    if yes:
        for entry in entries(settings, pending.model):
            if entry.version == pending.version:
                refuse_forgotten(entry)
    if earlier is None:
        facts = {
            "model": pending.model,
            "version": pending.version,
            "bundle": pending.bundle,
            "champion": pending.champion,
            "by": who.strip() or audit_log.whoami(),
            "why": why.strip(),
        }
        audit_log.append(settings, APPROVED if yes else REJECTED, **facts)
    withdraw(settings, pending.model, pending.version)
    if earlier is not None:
        raise ConfigError(
            f"{pending.named} was {APPROVED if earlier.yes else REJECTED} by {earlier.who} "
            f"already: {earlier.why}"
        )
    made = decision(settings, pending.bundle, pending.model)
    assert made is not None
    return made


def decision(settings: Settings, bundle: str, model: str) -> Decision | None:
    """What was said of a bundle, if anything was.

    Raises:
        DataError: the audit log is broken.
    """
    for entry in reversed(audit_log.read(settings)):
        about = (entry.facts.get("bundle"), entry.facts.get("model"))
        if entry.event in (APPROVED, REJECTED) and about == (bundle, model):
            who, why = str(entry.facts.get("by")), str(entry.facts.get("why"))
            return Decision(entry.event == APPROVED, who, why, entry.time)
    return None


def withdraw(settings: Settings, model: str, version: int) -> None:
    """It waits no more."""
    _path(settings, model, version).unlink(missing_ok=True)


def now() -> str:
    """As ``Pending.since`` tells it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _folder(settings: Settings) -> Path:
    return settings.home / "approvals"


def _path(settings: Settings, model: str, version: int) -> Path:
    if not _NAME.fullmatch(model):
        raise ConfigError(f"{model}: no name of a registered model")
    return _folder(settings) / f"{model}-{version}.json"


def _read(path: Path) -> Pending | None:
    try:
        return Pending.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path}: no record of what waits; delete it, then run again") from error
