"""Human approval of a promotion: pending requests and decisions.

Requests lie in ``<home>/approvals``, a file a version. Decisions are in the audit log, by the
digest of the bundle: that is where a promotion looks, so nothing but the log can let one pass.
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
from components.core.io.full_disk import explain_full_disk
from components.core.settings import Settings
from components.core.store.artifact import canonical_json
from components.core.workspace_layout import mark_layout
from components.publish.promotion import audit_log
from components.publish.promotion.alias_moves import refuse_forgotten
from components.publish.registry.model_registry import list_versions

APPROVED, REJECTED = "approved", "rejected"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class PendingApproval(BaseModel):
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
    """The gates' verdicts."""
    hours: float
    """Longest that a run waits for an answer."""
    since: str
    """UTC, ISO 8601."""
    flow_run_id: str | None = None
    """The Prefect flow run that is paused for it."""

    @property
    def named(self) -> str:
        """MODEL/VERSION, as a person types it."""
        return f"{self.model}/{self.version}"


@dataclass(frozen=True)
class ApprovalDecision:
    """A person's answer, with the reason."""

    yes: bool
    who: str
    why: str
    time: str


class NeedsApproval(MillError):
    """The gates have passed and a person has the last word; carries the pending request."""

    def __init__(self, pending: PendingApproval) -> None:
        super().__init__(
            f"{pending.named} waits for a person: "
            f"modelmill approve {pending.named} --yes|--no --why TEXT"
        )
        self.pending = pending

    def __reduce__(self) -> tuple[type[NeedsApproval], tuple[PendingApproval]]:
        return NeedsApproval, (self.pending,)


def request_approval(settings: Settings, pending: PendingApproval) -> PendingApproval:
    """Write the request down; its start, and its flow run, stay as they were."""
    earlier = _read(_path(settings, pending.model, pending.version))
    if earlier is not None and earlier.bundle == pending.bundle:
        unchanged = {
            "since": earlier.since,
            "flow_run_id": pending.flow_run_id or earlier.flow_run_id,
        }
        pending = pending.model_copy(update=unchanged)
    path = _path(settings, pending.model, pending.version)
    mark_layout(settings.home)
    with explain_full_disk(settings.home):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, canonical_json(pending.model_dump(mode="json")))
    return pending


def list_pending(settings: Settings) -> list[PendingApproval]:
    """All pending requests, the oldest first."""
    requests = (_read(path) for path in _folder(settings).glob("*.json"))
    return sorted((pending for pending in requests if pending), key=lambda pending: pending.since)


def find_pending(settings: Settings, model: str, version: int) -> PendingApproval:
    """The pending request of a version.

    Args:
        settings: workspace whose pending requests are read.
        model: a registered model.
        version: number of the version.

    Raises:
        ConfigError: nothing waits under this name; names what does.
    """
    request = _read(_path(settings, model, version))
    if request is None:
        names = ", ".join(pending.named for pending in list_pending(settings)) or "nothing"
        raise ConfigError(f"{model}/{version} does not wait for approval; waiting: {names}")
    return request


def record_decision(
    settings: Settings, pending: PendingApproval, yes: bool, who: str, why: str
) -> ApprovalDecision:
    """Write a person's decision into the audit log.

    Args:
        settings: workspace whose audit log keeps the decision.
        pending: decided on.
        yes: approved; else rejected.
        who: name of who made the decision; empty for the user of this process.
        why: the reason.

    Raises:
        ConfigError: no reason was given, or it was decided already.
        GateFailed: a yes to what was made of something that is to be forgotten.
    """
    if not why.strip():
        raise ConfigError("--why: say why; the audit log keeps it")
    earlier = find_decision(settings, pending.bundle, pending.model)
    if yes:
        for entry in list_versions(settings, pending.model):
            if entry.version == pending.version:
                refuse_forgotten(entry)
    if earlier is None:
        facts = {
            "model": pending.model,
            "version": pending.version,
            "bundle": pending.bundle,
            "champion": pending.champion,
            "by": who.strip() or audit_log.current_user(),
            "why": why.strip(),
        }
        audit_log.append_entry(settings, APPROVED if yes else REJECTED, **facts)
    clear_pending(settings, pending.model, pending.version)
    if earlier is not None:
        raise ConfigError(
            f"{pending.named} was {APPROVED if earlier.yes else REJECTED} by {earlier.who} "
            f"already: {earlier.why}"
        )
    made = find_decision(settings, pending.bundle, pending.model)
    assert made is not None
    return made


def find_decision(settings: Settings, bundle: str, model: str) -> ApprovalDecision | None:
    """The newest decision on a bundle; None where there is none.

    Args:
        settings: workspace whose audit log is read.
        bundle: digest of the bundle.
        model: the registered model that it is a version of.

    Raises:
        DataError: the audit log is broken.
    """
    for entry in reversed(audit_log.read_entries(settings)):
        about = (entry.facts.get("bundle"), entry.facts.get("model"))
        if entry.event in (APPROVED, REJECTED) and about == (bundle, model):
            who, why = str(entry.facts.get("by")), str(entry.facts.get("why"))
            return ApprovalDecision(entry.event == APPROVED, who, why, entry.time)
    return None


def clear_pending(settings: Settings, model: str, version: int) -> None:
    """Delete the pending request of a version, if there is one.

    Args:
        settings: workspace whose pending requests are read.
        model: a registered model.
        version: number of the version.
    """
    _path(settings, model, version).unlink(missing_ok=True)


def current_time() -> str:
    """The time as ``PendingApproval.since`` holds it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _folder(settings: Settings) -> Path:
    return settings.home / "approvals"


def _path(settings: Settings, model: str, version: int) -> Path:
    if not _NAME.fullmatch(model):
        raise ConfigError(f"{model}: no name of a registered model")
    return _folder(settings) / f"{model}-{version}.json"


def _read(path: Path) -> PendingApproval | None:
    try:
        return PendingApproval.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise DataError(f"{path}: no record of what waits; delete it, then run again") from error
