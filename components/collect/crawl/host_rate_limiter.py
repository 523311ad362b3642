"""One host's pace: the pause that is asked for, and a longer one while the host is in trouble.

The extra pause doubles with every refusal (429, 503, no answer in time) and fades with every
answer. ``Retry-After`` (RFC 9110, section 10.2.3) holds for the whole host, not for the one page
that was answered with it.
"""

from __future__ import annotations

from asyncio import Semaphore, sleep
from dataclasses import dataclass
from time import monotonic

MAX_WAIT_SECONDS = 120.0
"""A host that asks to be left alone for longer is asked no more."""
_FADING = 0.7


@dataclass
class Gate:
    """Every request to a host passes here."""

    slots: Semaphore
    delay: float
    first_penalty: float
    """Seconds of extra pause after a first refusal."""
    penalty: float = 0.0
    free_at: float = 0.0
    closed: str = ""
    """Why the host is asked no more."""
    _troubled_at: float = 0.0

    async def __aenter__(self) -> float:
        """The moment at which the request may start."""
        await self.slots.acquire()
        # A refusal that comes in while we wait moves the moment: hence the loop.
        while (now := monotonic()) < self.free_at:
            await sleep(self.free_at - now)
        self.free_at = now + self.delay + self.penalty
        return now

    async def __aexit__(self, *_: object) -> None:
        self.slots.release()

    def answered(self) -> None:
        """The host answers again: go back to its pace step by step."""
        self.penalty *= _FADING
        if self.penalty < self.first_penalty / 2:
            self.penalty = 0.0

    def refused(self, started: float, wait_seconds: float | None) -> str:
        """The host is in trouble, and may say for how long; why it is asked no more, if so.

        Requests under way together are refused together: that is one trouble, not many.
        """
        now = monotonic()
        if started >= self._troubled_at:
            self.penalty = min(max(2 * self.penalty, self.first_penalty), MAX_WAIT_SECONDS)
            self._troubled_at = now
        asked = wait_seconds or 0.0
        if asked > MAX_WAIT_SECONDS:
            self.closed = f"its host asks to be left alone for {asked:.0f} s"
        else:
            self.free_at = max(self.free_at, now + max(asked, self.penalty))
        return self.closed
