"""What runs of ``modelmill up``, as ``<home>/up.json`` tells it."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.process.process_tree import is_running
from components.core.settings import Settings
from components.core.store.artifact import canonical_json

STARTING, UP, RESTARTING, FAILED = "starting", "up", "restarting", "failed"
PREFECT, WORKER, MLFLOW, ENDPOINT, DEPLOY = "prefect", "worker", "mlflow", "endpoint", "deploy"
SERVICE_NAMES = (PREFECT, WORKER, MLFLOW, ENDPOINT, DEPLOY)
SERVICE_MARK = "MODELMILL_UP"
_CONNECT_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True)
class ServiceState:
    """One service at a moment."""

    name: str
    title: str
    address: str
    state: str = STARTING
    note: str = ""
    """What it serves, or why it is down."""
    pid: int = 0
    create_time: float = 0.0
    since: float = 0.0
    """Unix seconds of its last start."""
    seconds: float = 0.0
    """From that start until it answered."""
    restarts: int = 0


@dataclass(frozen=True)
class PlatformState:
    """One ``up`` at a moment."""

    pid: int
    create_time: float
    started: float
    api: str
    """Address of Prefect's API."""
    complete: bool
    """Everything answered once."""
    services: tuple[ServiceState, ...]


def service_mark(settings: Settings, name: str) -> str:
    """What the environment of a service, and of all that it starts, holds as ``MARK``."""
    return f"{settings.home}#{name}"


def lock_file(settings: Settings) -> Path:
    """Held by the one ``up`` of a workspace."""
    return settings.home / "up.lock"


def state_file(settings: Settings) -> Path:
    """Where ``up`` keeps its state true."""
    return settings.home / "up.json"


def write_state(settings: Settings, state: PlatformState) -> None:
    """Replace the state whole."""
    write_atomically(state_file(settings), canonical_json(asdict(state)))


def read_state(settings: Settings) -> PlatformState | None:
    """The state that was written last, also by an ``up`` that is gone; None where there is none.

    Raises:
        DataError: the file is damaged.
    """
    path = state_file(settings)
    try:
        content = json.loads(path.read_bytes())
        services = tuple(ServiceState(**service) for service in content.pop("services"))
        return PlatformState(services=services, **content)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it") from error


def read_running_state(settings: Settings) -> PlatformState | None:
    """The state of the ``up`` that runs now.

    Raises:
        DataError: its file is damaged.
    """
    state = read_state(settings)
    return state if state is not None and is_running(state.pid, state.create_time) else None


def find_service(states: Sequence[ServiceState], name: str) -> ServiceState | None:
    """One service by its name."""
    return next((state for state in states if state.name == name), None)


def prefect_api(settings: Settings) -> str | None:
    """The address of the running ``up``'s Prefect API, if it answers."""
    try:
        state = read_running_state(settings)
    except DataError:
        return None  # `up`, `down` and `status` say so; a run goes on with a server of its own
    server = find_service(state.services, PREFECT) if state else None
    if state is None or server is None or server.state != UP:
        return None
    address = urlsplit(state.api)
    try:
        with socket.create_connection(
            (address.hostname, address.port), timeout=_CONNECT_TIMEOUT_SECONDS
        ):
            return state.api
    except OSError:
        return None
