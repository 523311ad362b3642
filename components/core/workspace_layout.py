"""Layout number of a workspace, and the refusal of workspaces of another layout.

Component paths are part of the store's keys, of ``prefect.yaml`` and of packaged Bentos. When they
change, an older workspace can neither be reused nor read reliably, so it is refused as it is:
nothing in it is locked, migrated or deleted. ``LAYOUT`` goes up with such a change.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from components.core.errors import ConfigError
from components.core.io.atomic_write import atomic_path
from components.core.io.full_disk import FULL_DISK

LAYOUT = 2
"""Layout that this version reads and writes; workspaces of layout 1 carry no number."""
LAYOUT_FILE = "workspace.json"
_TRACES = (
    "store/sealed",
    "store/partial",
    "mlflow/mlflow.db",
    "prefect/prefect.db",
    "datasets/.dvc",
    "bentos/bentos",
    "audit.jsonl",
    "blocklist.jsonl",
)
"""Files and folders of a run, a registry, orders or the audit log: a workspace that has one was in
use before. ``runs`` or ``logs`` alone could be anybody's."""


def check_layout(home: Path, shown: str) -> None:
    """Refuse a workspace of another layout; only reads.

    Args:
        home: the workspace's folder; an absent or empty one is new, and fits.
        shown: its name in messages, such as ``MODELMILL_HOME=...``.

    Raises:
        ConfigError: an earlier or a later version wrote it, or its layout file cannot be read.
    """
    way_on = "set MODELMILL_HOME to a new folder; nothing in it was changed"
    layout = _read_layout(home)
    if layout is None:
        raise ConfigError(f"{shown}: {LAYOUT_FILE} cannot be read: {way_on}")
    if layout < LAYOUT:
        raise ConfigError(
            f"{shown} was written by an earlier version of Modelmill (layout {layout}, "
            f"this one has {LAYOUT}): {way_on}"
        )
    if layout > LAYOUT:
        raise ConfigError(
            f"{shown} was written by a later version of Modelmill (layout {layout}, "
            f"this one has {LAYOUT}): use that version, or {way_on}"
        )


def mark_layout(home: Path) -> None:
    """Write the layout number into a workspace that has none; called before its first write.

    The settings that name ``home`` went through ``check_layout``: without a number it is new.

    Raises:
        ConfigError: the workspace cannot be written.
    """
    path = home / LAYOUT_FILE
    try:
        if path.exists():
            if not os.access(home, os.W_OK | os.X_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        home.mkdir(parents=True, exist_ok=True)
        with atomic_path(path, suffix=f".{os.getpid()}.tmp") as temporary:
            temporary.write_text(json.dumps({"layout": LAYOUT}) + "\n", encoding="ascii")
    except OSError as error:
        if error.errno in FULL_DISK:
            raise  # told elsewhere, with what to free
        raise ConfigError(
            f"{home}: the workspace cannot be written ({error.strerror}): make it writable, or set "
            "MODELMILL_HOME to another folder"
        ) from error


def _read_layout(home: Path) -> int | None:
    """Layout of a workspace, ``LAYOUT`` for a new one; None where its file cannot be read."""
    try:
        layout = json.loads((home / LAYOUT_FILE).read_bytes())["layout"]
    except FileNotFoundError:
        return 1 if any((home / trace).exists() for trace in _TRACES) else LAYOUT
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return layout if isinstance(layout, int) and not isinstance(layout, bool) else None
