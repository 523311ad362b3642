"""Audit log of who changed what is served, when and why, as a chain of hashes.

``<home>/audit.jsonl`` holds one canonical JSON object a line. Each carries the sha256 of the entry
before it and its own, so an entry that was edited, taken out or moved is found and named.
``<home>/audit.head.json`` names the newest entry, so that entries cut off the end are missed too.
Whoever may write both files can write a new history: keep the head that ``modelmill audit`` shows
somewhere else, and ask for it with ``--verify --head``.

An entry is on the disk before ``append_entry`` returns. Half a line, left by a kill, never was an
entry: the next ``append_entry`` cuts it off and says so in an entry of its own.
"""

from __future__ import annotations

import json
import os
import pwd
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.io.full_disk import explain_full_disk
from components.core.io.locks import hold_lock
from components.core.log import get_logger, mask_secrets
from components.core.settings import Settings
from components.core.store.artifact import canonical_json, digest_value
from components.core.workspace_layout import mark_layout

NO_PREVIOUS = "0" * 64
"""``previous`` of the first entry."""
MENDED = "mended"
"""The event of an entry that tells of half a line cut off."""
log = get_logger(__name__)


@dataclass(frozen=True)
class AuditEntry:
    """One line of the log."""

    sequence: int
    """1, 2, 3 ... without a gap."""
    time: str
    """UTC, ISO 8601."""
    event: str
    who: str
    """user@host of the process, as the machine itself knows them."""
    facts: dict[str, Any]
    previous: str
    """sha256 of the entry before."""
    sha256: str
    """Of all the other fields, as canonical JSON."""


@dataclass(frozen=True)
class _Log:
    """Content of the file: whole lines, and the bytes after the last of them."""

    lines: list[bytes]
    torn: int

    @property
    def whole(self) -> int:
        return sum(len(line) + 1 for line in self.lines)


def append_entry(settings: Settings, event: str, /, **facts: Any) -> None:
    """Add an entry; it is on the disk when this returns.

    Args:
        settings: workspace whose log is continued.
        event: one word for what happened.
        facts: JSON-safe; secrets in them are masked.

    Raises:
        DataError: the log's end is not as it was left; nothing is added.
        MillError: the disk is full.
    """
    path = log_path(settings)
    mark_layout(settings.home)
    with explain_full_disk(settings.home), hold_lock(settings.home / "audit.lock"):
        held = _load(path)
        last = _checked_end(settings, held)
        if held.torn:
            log.warning("%s ended in half a line; %d bytes cut off", path.name, held.torn)
            os.truncate(path, held.whole)
            last = _add(settings, last, MENDED, {"bytes": held.torn})
        _add(settings, last, event, facts)


def append_entry_once(settings: Settings, token: str, event: str, /, **facts: Any) -> None:
    """Add an entry, unless one already carries this ``token``.

    Args:
        settings: workspace whose log is continued.
        token: names the change, so that its entry is not written twice after a kill.
        event: one word for what happened.
        facts: JSON-safe; secrets in them are masked.

    Raises:
        DataError: as ``read_entries`` and ``append_entry``.
    """
    if not any(entry.facts.get("token") == token for entry in read_entries(settings)):
        append_entry(settings, event, token=token, **facts)


def read_entries(settings: Settings) -> list[AuditEntry]:
    """Read every entry, oldest first, and check the chain. Half a last line is left out and said.

    Raises:
        DataError: at the first broken link; names the entry.
    """
    path = log_path(settings)
    if not path.exists():
        _check_head(settings, [])
        return []
    with hold_lock(settings.home / "audit.lock"):
        held = _load(path)
        entries = _chain(path, held.lines)
        _check_head(settings, entries)
    if held.torn:
        log.warning("%s ends in half a line, which is no entry (%d bytes)", path.name, held.torn)
    return entries


def log_path(settings: Settings) -> Path:
    """Path of the log."""
    return settings.home / "audit.jsonl"


def check_end(settings: Settings) -> None:
    """Check that an entry could be added, before anything is changed that must be logged.

    Raises:
        DataError: the log's end is not as it was left.
    """
    if settings.home.is_dir():
        with hold_lock(settings.home / "audit.lock"):
            _checked_end(settings, _load(log_path(settings)))


def current_user() -> str:
    """user@host, from the machine's own tables: no environment, no network."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _load(path: Path) -> _Log:
    content = path.read_bytes() if path.exists() else b""
    *lines, rest = content.split(b"\n")
    return _Log(lines, len(rest))


def _chain(path: Path, lines: list[bytes]) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    previous = NO_PREVIOUS
    for number, line in enumerate(lines, start=1):
        entry = _parse(path, number, line)
        if entry.sequence != number:
            raise _broken(path, f"entry {number} is missing: entry {entry.sequence} is in its line")
        if entry.previous != previous:
            named = f"entry {number} does not follow"
            raise _broken(path, f"{named} {f'entry {number - 1}' if number > 1 else 'nothing'}")
        entries.append(entry)
        previous = entry.sha256
    return entries


def _parse(path: Path, number: int, line: bytes) -> AuditEntry:
    """The line as an entry whose own hash is right.

    Raises:
        DataError: it is none, or was edited.
    """
    try:
        content = json.loads(line)
        entry = AuditEntry(**content)
    except (ValueError, TypeError) as error:
        raise _broken(path, f"line {number} is no entry") from error
    content.pop("sha256")
    if digest_value(content) != entry.sha256 or canonical_json(asdict(entry)) != line:
        raise _broken(path, f"entry {number} was edited: its sha256 is another")
    return entry


def _checked_end(settings: Settings, held: _Log) -> AuditEntry | None:
    """The last entry, its own hash and the head's checked."""
    path = log_path(settings)
    count = len(held.lines)
    last = _parse(path, count, held.lines[-1]) if held.lines else None
    if last is not None and last.sequence != count:
        raise _broken(path, f"entry {count} is missing: entry {last.sequence} is in its line")
    before = _parse(path, count - 1, held.lines[-2]) if count > 1 else None
    _check_head(settings, [entry for entry in (before, last) if entry is not None])
    return last


def _check_head(settings: Settings, entries: list[AuditEntry]) -> None:
    """Check that the head names the last entry, or the one before after a kill in between."""
    path, head = log_path(settings), _head_path(settings)
    last = entries[-1].sequence if entries else 0
    if not head.exists():
        if last > 1:
            raise _broken(path, f"{head.name}, which names the newest entry, is gone")
        return
    try:
        named = json.loads(head.read_bytes())
        sequence, sha256 = int(named["sequence"]), str(named["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise _broken(path, f"{head.name} cannot be read") from error
    if sequence > last:
        raise _broken(path, f"entry {last + 1} is missing: {head.name} names entry {sequence}")
    if sequence < last - 1:
        raise _broken(path, f"{head.name} names entry {sequence}, but entry {last} is there")
    if {entry.sequence: entry.sha256 for entry in entries}.get(sequence) != sha256:
        raise _broken(path, f"entry {sequence} is another than {head.name} names")


def _head_path(settings: Settings) -> Path:
    return settings.home / "audit.head.json"


def _broken(path: Path, what: str) -> DataError:
    return DataError(
        f"{path.name}: {what}; put {path.name} and audit.head.json back from a copy, or move both "
        f"out of {path.parent} to begin a new log"
    )


def _add(
    settings: Settings, last: AuditEntry | None, event: str, facts: dict[str, Any]
) -> AuditEntry:
    content = {
        "sequence": last.sequence + 1 if last else 1,
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "who": current_user(),
        "facts": {key: mask_secrets(v) if isinstance(v, str) else v for key, v in facts.items()},
        "previous": last.sha256 if last else NO_PREVIOUS,
    }
    line = canonical_json(content | {"sha256": digest_value(content)})
    _write(log_path(settings), line + b"\n")
    entry = AuditEntry(**json.loads(line))
    head = {"sequence": entry.sequence, "sha256": entry.sha256}
    write_atomically(_head_path(settings), canonical_json(head))
    return entry


def _write(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        while line:
            line = line[os.write(descriptor, line) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
