"""How a promotion asks the keeper of the running endpoint for another model, through two files.

``<home>/endpoint/wanted.json`` holds the newest request of whoever promotes, ``keeper.json`` what
the keeper says of itself. Both are replaced whole. A request names the keeper it is meant for, so
a keeper that was started later never follows it: it serves a champion to begin with, of the model
that it is told to keep or whose champion moved last.

The keeper's side::

    handover = Handover(settings)
    handover.tell(Status(pid, create_time, serving=…))          # first, and after every change
    wanted = handover.wanted()                                  # some times a second
    if wanted is not None and wanted.token != answered: …       # prepare, switch or drop
    handover.tell(Status(…, prepared=…, token=wanted.token, error=None))

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
from components.core.store.artifact import canonical

Phase = Literal["prepare", "switch", "drop"]
_PHASES = ("prepare", "switch", "drop")
_POLL_SECONDS = 0.05
_DROP_SECONDS = 10.0
_SAME_START_SECONDS = 2.0
"""Start times of one process may be computed this far apart where the clock was set."""
_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
log = get_logger(__name__)


@dataclass(frozen=True)
class Served:
    """What an endpoint serves."""

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
class Wanted:
    """A request to the keeper."""

    phase: Phase
    served: Served
    token: str
    """Names the request; the answer carries it."""


@dataclass(frozen=True)
class Status:
    """What the keeper says of itself."""

    pid: int
    create_time: float
    """Of the keeper's process, as psutil gives it: a number of another process is no keeper."""
    serving: Served | None = None
    prepared: Served | None = None
    token: str | None = None
    """The request answered last."""
    error: str | None = None
    """Why that request was not met; None where it was."""
    only: str | None = None
    """The one model it was told to keep; None where it follows whichever is promoted."""

    def takes(self, model: str) -> bool:
        """Whether a promotion of ``model`` changes what it serves: another model is left alone."""
        kept = self.only or (self.serving.model if self.serving is not None else None)
        return kept in (None, model)


class _KeeperGone(MillError):
    """The keeper ended before it answered."""


class Handover:
    """Both sides' view of the two files."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home / "endpoint"
        self._told: Status | None = None

    # The promoter's side.

    def running(self) -> bool:
        """Whether a keeper of this workspace is alive."""
        return self.status() is not None

    def status(self) -> Status | None:
        """What the living keeper says of itself; None where there is none.

        Raises:
            DataError: its file is damaged.
        """
        found = self._read("keeper.json", _status)
        return found if found is not None and _alive(found) else None

    def prepare(self, served: Served, seconds: float) -> None:
        """Have ``served`` started beside the present one; returns when it is ready.

        Raises:
            MillError: it was not ready in time, could not be started, or the keeper ended. What
                was prepared is given up; what is served is as it was.
        """
        status = self.status()
        if status is not None and served in (status.serving, status.prepared):
            return
        try:
            self._ask("prepare", served, seconds)
        except _KeeperGone:
            raise
        except MillError:
            self.drop(served)
            raise

    def switch(self, served: Served, seconds: float) -> None:
        """Have new requests go to ``served``. Done already, or without a keeper: nothing to do.

        Raises:
            MillError: the keeper refused or did not answer in time.
        """
        status = self.status()
        if status is None or status.serving == served:
            return
        try:
            self._ask("switch", served, seconds)
        except _KeeperGone:  # the next one serves the champion to begin with
            log.warning("the endpoint's keeper ended meanwhile; its next start serves %s", served)

    def drop(self, served: Served) -> None:
        """Have a prepared one stopped; a keeper that does not is only warned of."""
        if not self.running():
            return
        try:
            self._ask("drop", served, _DROP_SECONDS)
        except MillError as error:
            log.warning("%s", error)

    def _ask(self, phase: Phase, served: Served, seconds: float) -> None:
        status = self.status()
        if status is None:
            raise _KeeperGone(f"no endpoint is running that could take {served}")
        token = uuid.uuid4().hex
        request = {
            **asdict(Wanted(phase, served, token)),
            "keeper": {"pid": status.pid, "create_time": status.create_time},
        }
        self._write("wanted.json", request)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            status = self.status()
            if status is None:
                raise _KeeperGone(f"the endpoint ended before it could take {served}")
            if status.token == token:
                if status.error is not None:
                    raise MillError(f"the endpoint did not {phase} {served}: {status.error}")
                return
            time.sleep(_POLL_SECONDS)
        raise MillError(f"the endpoint did not {phase} {served} within {seconds:g} s")

    # The keeper's side.

    def wanted(self) -> Wanted | None:
        """The newest request to this keeper; None before its first ``tell``."""
        request = self._read("wanted.json", dict)
        if request is None or self._told is None:
            return None
        try:
            meant = Status(**request["keeper"])
            if not _same(meant, self._told):
                return None
            if request["phase"] not in _PHASES:
                raise ValueError(request["phase"])
            served = Served(**request["served"])
            return Wanted(request["phase"], served, str(request["token"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{self.folder / 'wanted.json'}: no request: {error!r}") from error

    def tell(self, status: Status) -> None:
        """Say how it stands; promoters wait for it."""
        self._told = status
        self._write("keeper.json", asdict(status))

    def _write(self, name: str, content: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / name, canonical(content))

    def _read(self, name: str, build: Any) -> Any:
        path = self.folder / name
        try:
            return build(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: cannot be read ({error}); delete it") from error


def _status(content: dict[str, Any]) -> Status:
    named = {key: Served(**content[key]) for key in ("serving", "prepared") if content[key]}
    return Status(**{**content, **named})


def _same(one: Status, other: Status) -> bool:
    apart = abs(one.create_time - other.create_time)
    return one.pid == other.pid and apart < _SAME_START_SECONDS


def _alive(status: Status) -> bool:
    try:
        process = psutil.Process(status.pid)
        started = process.create_time()
        ended = process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.Error:
        return False
    return not ended and abs(started - status.create_time) < _SAME_START_SECONDS
