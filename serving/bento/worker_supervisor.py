"""Supervisor of a server's workers that replaces one as soon as it ends.

BentoML (1.4.39) has circus look after its workers every ten seconds, and knows no setting for it: a
worker that was killed is missed for half of that in the mean. The kernel tells the supervisor at
once (SIGCHLD).
"""

from __future__ import annotations

import os
import signal
from typing import Any

from bentoml._internal.utils import circus
from circus.exc import ConflictError  # type: ignore[import-untyped]

STEADY_SECONDS = 10.0
"""A worker that lived as long was sound: it is replaced at once."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
"""Before one is replaced that ended sooner. The pause doubles each time, up to circus's own period,
so that a worker that cannot start does not keep the processor busy."""
_BUSY_SECONDS = 0.1
"""Until circus, which does one thing at a time, is asked again."""


class WorkerSupervisor(circus.Arbiter):
    """Circus's arbiter, which hears of the end of a worker."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._pause = 0.0
        self._replacing = False

    def start(self, cb: Any = None) -> None:
        """Run the workers until the supervisor is told to end.

        Args:
            cb: called once they are started.
        """
        self.loop.asyncio_loop.add_signal_handler(signal.SIGCHLD, self._hear_child)
        super().start(cb)

    def _hear_child(self) -> None:
        ages = [
            process.age()
            for watcher in self.iter_watchers()
            for process in watcher.processes.values()
            if has_ended(process.pid)
        ]
        if not ages or self._replacing or self._stopping:
            return
        self._replacing = True
        self._pause = next_pause(self._pause, min(ages))
        self.loop.call_later(self._pause, self._replace)

    async def _replace(self) -> None:
        try:
            if not self._stopping:
                await self.manage_watchers()
        except ConflictError:  # it is starting or checking just now
            self.loop.call_later(_BUSY_SECONDS, self._replace)
            return
        self._replacing = False


def next_pause(pause: float, age: float) -> float:
    """Seconds until an ended worker is replaced.

    Args:
        pause: of the one before it.
        age: seconds that it lived.
    """
    if age >= STEADY_SECONDS:
        return 0.0
    return min(max(FIRST_PAUSE, 2 * pause), LONGEST_PAUSE)


def has_ended(pid: int) -> bool:
    """True if a child has ended; its status stays for whom it belongs to."""
    try:
        status = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:  # somebody has taken its status
        return True
    return status is not None


def install_worker_supervisor() -> None:
    """Have BentoML run its workers below this supervisor."""
    circus.Arbiter = WorkerSupervisor  # type: ignore[misc]
