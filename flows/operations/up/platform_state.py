"""State of a workspace's platform, kept in ``<home>/up.json`` by ``modelmill up``."""

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
    """State of one service."""

    name: str
    title: str
    address: str
    state: str = STARTING
    note: str = ""
    """Text for the user: what the service serves, or why it is down."""
    pid: int = 0
    create_time: float = 0.0
    since: float = 0.0
    """Time of its last start, in seconds since 1970."""
    seconds: float = 0.0
    """Seconds from that start until it answered."""
    restarts: int = 0


@dataclass(frozen=True)
class PlatformState:
    """State of one ``modelmill up``."""

    pid: int
    create_time: float
    started: float
    api: str
    """Address of Prefect's API."""
    complete: bool
    """True once every service has answered."""
    services: tuple[ServiceState, ...]
    drain_seconds: float = 0.0
    """Longest that the endpoint's answers go on once it is told to end."""


def service_mark(settings: Settings, name: str) -> str:
    """Value of ``SERVICE_MARK`` in the environment of a service and of all its descendants."""
    return f"{settings.home}#{name}"


def lock_file(settings: Settings) -> Path:
    """Path of the lock that the one ``up`` of a workspace holds."""
    return settings.home / "up.lock"


def state_file(settings: Settings) -> Path:
    """Path of the state file that ``up`` keeps current."""
    return settings.home / "up.json"


def write_state(settings: Settings, state: PlatformState) -> None:
    """Replace the state file atomically."""
    write_atomically(state_file(settings), canonical_json(asdict(state)))


def read_state(settings: Settings) -> PlatformState | None:
    """Read the state that was written last, also by an ``up`` that is gone; None if there is none.

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
    """Read the state of the ``up`` that is running; None if none is.

    Raises:
        DataError: its file is damaged.
    """
    state = read_state(settings)
    return state if state is not None and is_running(state.pid, state.create_time) else None


def find_service(states: Sequence[ServiceState], name: str) -> ServiceState | None:
    """Find a service by its name."""
    return next((state for state in states if state.name == name), None)


def prefect_api(settings: Settings) -> str | None:
    """Address of the Prefect API of the running ``up``; None if it does not answer."""
    try:
        state = read_running_state(settings)
    except DataError:
        return None  # `up`, `down` and `status` report it; a run uses a server of its own
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
