"""Rate limiter of one host and port: the requested pause, and a penalty while it is in trouble.

The penalty doubles with every refusal (429, 503, no answer in time) and decays with every success.
``Retry-After`` (RFC 9110, section 10.2.3) holds for the whole host, not for the one page that was
answered with it.
"""

from __future__ import annotations

from asyncio import Semaphore, sleep
from dataclasses import dataclass
from time import monotonic

MAX_WAIT_SECONDS = 120.0
"""Longest wait that is honoured; a host that asks for a longer one is requested no more."""
_PENALTY_DECAY = 0.7
"""Factor on the penalty for each success: two successes halve it, as one refusal doubles it."""


@dataclass
class HostRateLimiter:
    """Async context manager that every request to one host is made in.

    It bounds concurrent requests and sets the earliest start of the next one.
    """

    slots: Semaphore
    delay_seconds: float
    first_penalty_seconds: float
    """Penalty after a first refusal, in seconds."""
    penalty_seconds: float = 0.0
    next_start: float = 0.0
    closed_reason: str = ""
    """Why the host is requested no more; empty while it is."""
    _last_refusal_at: float = 0.0

    async def __aenter__(self) -> float:
        """Wait for a slot and for the host's pause; returns the monotonic start time."""
        await self.slots.acquire()
        # A refusal that comes in during the wait moves the next start: hence the loop.
        while (now := monotonic()) < self.next_start:
            await sleep(self.next_start - now)
        self.next_start = now + self.delay_seconds + self.penalty_seconds
        return now

    async def __aexit__(self, *_: object) -> None:
        self.slots.release()

    def record_success(self) -> None:
        """Decay the penalty after a success, down to none."""
        self.penalty_seconds *= _PENALTY_DECAY
        if self.penalty_seconds < self.first_penalty_seconds / 2:
            self.penalty_seconds = 0.0

    def record_refusal(self, started: float, wait_seconds: float | None) -> str:
        """Raise the penalty after a refusal; the reason where the host is requested no more.

        Requests under way together are refused together and count as one refusal.

        Args:
            started: Monotonic time at which the refused request started.
            wait_seconds: ``Retry-After`` of the response, None for none.
        """
        now = monotonic()
        if started >= self._last_refusal_at:
            self.penalty_seconds = min(
                max(2 * self.penalty_seconds, self.first_penalty_seconds), MAX_WAIT_SECONDS
            )
            self._last_refusal_at = now
        requested = wait_seconds or 0.0
        if requested > MAX_WAIT_SECONDS:
            self.closed_reason = f"its host asks to be left alone for {requested:.0f} s"
        else:
            self.next_start = max(self.next_start, now + max(requested, self.penalty_seconds))
        return self.closed_reason
