"""Exchange of the served model: the protocol between a promotion and the endpoint's manager.

``<home>/endpoint/wanted.json`` holds the newest request of whoever promotes, ``keeper.json`` the
manager's status. Both are replaced whole. A request names the manager it is meant for, so a
manager that was started later never follows it: it serves a champion to begin with, of the model
that it is told to keep or whose champion moved last.

The manager's side::

    swap = EndpointSwap(settings)
    swap.report_status(EndpointStatus(pid, create_time, serving=…))  # first, and after changes
    request = swap.read_request()                                    # several times a second
    if request is not None and request.token != answered: …          # prepare, switch or drop
    swap.report_status(EndpointStatus(…, prepared=…, token=request.token, error=None))

``prepare`` is answered when the new server is ready (or with ``error``), ``switch`` when new
requests go to it, ``drop`` when it is stopped. A ``switch`` to what is not prepared prepares it.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from dataclasses import asdict, dataclass
from typing import Any, Literal

import psutil

from components.core.errors import DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.settings import Settings
from components.core.store.artifact import canonical_json

Phase = Literal["prepare", "switch", "drop"]
_PHASES = ("prepare", "switch", "drop")
_POLL_SECONDS = 0.05
_DROP_SECONDS = 10.0
_SAME_START_SECONDS = 2.0
"""Start times of one process may be computed this far apart where the clock was set."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
log = get_logger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A registered version and the Bento that it is served from."""

    model: str
    version: str
    bento: str
    """Folder name of the Bento's version, below ``<home>/bentos/bentos/modelmill``."""

    def __post_init__(self) -> None:
        if not _FOLDER.fullmatch(self.bento):
            raise DataError(f"{self.bento!r} is no name of a Bento's folder")

    def __str__(self) -> str:
        return f"{self.model} version {self.version}"


@dataclass(frozen=True)
class SwapRequest:
    """A request of a promotion to the manager."""

    phase: Phase
    served: ServedModel
    token: str
    """Names the request; the answer carries it."""


@dataclass(frozen=True)
class EndpointStatus:
    """The manager's account of itself."""

    pid: int
    create_time: float
    """Of the manager's process, as psutil gives it: tells a reused process id apart."""
    serving: ServedModel | None = None
    prepared: ServedModel | None = None
    token: str | None = None
    """The request answered last."""
    error: str | None = None
    """Why that request was not met; None where it was."""
    only: str | None = None
    """The one model it was told to keep; None where it follows whichever is promoted."""

    def follows(self, model: str) -> bool:
        """True where a promotion of ``model`` changes what it serves; another's does not."""
        followed = self.only or (self.serving.model if self.serving is not None else None)
        return followed in (None, model)


class _ManagerGone(MillError):
    """The manager ended before it answered."""


class EndpointSwap:
    """Reader and writer of the two files, for both sides."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home / "endpoint"
        self._own_status: EndpointStatus | None = None

    # The promoter's side.

    def is_running(self) -> bool:
        """True while a manager of this workspace is alive."""
        return self.read_status() is not None

    def read_status(self) -> EndpointStatus | None:
        """The living manager's status; None where none is alive."""
        status = self._read("keeper.json", _status)
        return status if status is not None and _is_alive(status) else None

    def prepare(self, served: ServedModel, seconds: float) -> None:
        """Have ``served`` started beside the present one; returns when it is ready.

        Raises:
            MillError: it was not ready in time, could not be started, or the manager ended. What
                was prepared is given up; what is served is as it was.
        """
        status = self.read_status()
        if status is not None and served in (status.serving, status.prepared):
            return
        try:
            self._ask("prepare", served, seconds)
        except _ManagerGone:
            raise
        except MillError:
            self.drop(served)
            raise

    def switch(self, served: ServedModel, seconds: float) -> None:
        """Have new requests go to ``served``. Done already, or without a manager: nothing to do.

        Raises:
            MillError: the manager refused or did not answer in time.
        """
        status = self.read_status()
        if status is None or status.serving == served:
            return
        try:
            self._ask("switch", served, seconds)
        except _ManagerGone:  # the next one serves the champion to begin with
            log.warning("the endpoint's manager ended meanwhile; its next start serves %s", served)

    def drop(self, served: ServedModel) -> None:
        """Have a prepared one stopped; a manager that does not is only warned of."""
        if not self.is_running():
            return
        try:
            self._ask("drop", served, _DROP_SECONDS)
        except MillError as error:
            log.warning("%s", error)

    def _ask(self, phase: Phase, served: ServedModel, seconds: float) -> None:
        status = self.read_status()
        if status is None:
            raise _ManagerGone(f"no endpoint is running that could take {served}")
        token = uuid.uuid4().hex
        request = {
            **asdict(SwapRequest(phase, served, token)),
            "keeper": {"pid": status.pid, "create_time": status.create_time},
        }
        self._write("wanted.json", request)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.read_status()
            if status is None:
                raise _ManagerGone(f"the endpoint ended before it could take {served}")
            if status.token == token:
                if status.error is not None:
                    raise MillError(f"the endpoint did not {phase} {served}: {status.error}")
                return
            time.sleep(_POLL_SECONDS)
        raise MillError(f"the endpoint did not {phase} {served} within {seconds:g} s")

    # The manager's side.

    def read_request(self) -> SwapRequest | None:
        """The newest request to this manager; None before its first ``report_status``."""
        request = self._read("wanted.json", dict)
        if request is None or self._own_status is None:
            return None
        try:
            meant = EndpointStatus(**request["keeper"])
            if not _is_same_process(meant, self._own_status):
                return None
            if request["phase"] not in _PHASES:
                raise ValueError(request["phase"])
            served = ServedModel(**request["served"])
            return SwapRequest(request["phase"], served, str(request["token"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.folder / 'wanted.json'}: no request: {error!r}") from error

    def report_status(self, status: EndpointStatus) -> None:
        """Say how it stands; promoters wait for it."""
        self._own_status = status
        self._write("keeper.json", asdict(status))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, canonical_json(content))

    def _read(self, name: str, build: Any) -> Any:
        path = self.folder / name
        try:
            return build(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it") from error


def _status(content: dict[str, Any]) -> EndpointStatus:
    named = {key: ServedModel(**content[key]) for key in ("serving", "prepared") if content[key]}
    return EndpointStatus(**{**content, **named})


def _is_same_process(first: EndpointStatus, other: EndpointStatus) -> bool:
    apart = abs(first.create_time - other.create_time)
    return first.pid == other.pid and apart < _SAME_START_SECONDS


def _is_alive(status: EndpointStatus) -> bool:
    try:
        process = psutil.Process(status.pid)
        started = process.create_time()
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
    return not ended and abs(started - status.create_time) < _SAME_START_SECONDS
