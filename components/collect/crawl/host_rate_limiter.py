"""Rate limiter of one host and port: the requested pause, and a penalty while it is in trouble.

The penalty doubles with every refusal (429, 503, no answer in time) and decays with every success.
``Retry-After`` (RFC 9110, section 10.2.3) holds for the whole host, not for the one page that was
answered with it.
"""

from __future__ import annotations

from asyncio import Semaphore, sleep
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

MAX_WAIT_SECONDS = 120.0
"""Longest wait that is honoured; a host that asks for a longer one is requested no more."""
_PACE_WEIGHT = 0.1
"""Weight of the latest request in the mean pace: some twenty requests back, all are forgotten."""
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
    seconds_per_request: float | None = None
    """Mean time from one answer to the next while requests are waiting; None before the first."""
    _last_refusal_at: float = 0.0
    _last_end: float = 0.0
    _waiting: int = 0
    """Requests that wait or are under way."""
    _waiting_since: float = 0.0

    async def __aenter__(self) -> float:
        """Wait for a slot and for the host's pause; returns the monotonic start time."""
        if not self._waiting:
            self._waiting_since = monotonic()
        self._waiting += 1
        await self.slots.acquire()
        # A refusal that comes in during the wait moves the next start: hence the loop.
        while (now := monotonic()) < self.next_start:
            await sleep(self.next_start - now)
        self.next_start = now + self.delay_seconds + self.penalty_seconds
        return now

    async def __aexit__(self, *_: object) -> None:
        self.slots.release()
        self._waiting -= 1
        now = monotonic()
        seconds, mean = now - max(self._last_end, self._waiting_since), self.seconds_per_request
        self.seconds_per_request = (
            seconds if mean is None else mean + _PACE_WEIGHT * (seconds - mean)
        )
        self._last_end = now

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


def estimate_seconds(
    requests: Mapping[str, float], limiters: Mapping[str, HostRateLimiter]
) -> float | None:
    """Time of so many requests, each site at its own pace and all sites side by side.

    A site that has not answered yet is taken for as fast as the mean of the others, and for no
    faster than its pause. None where no site has answered.

    Args:
        requests: Requests by site.
        limiters: Rate limiters by site.
    """
    paces = [limiter.seconds_per_request for limiter in limiters.values()]
    known = [pace for pace in paces if pace is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    longest = 0.0
    for site, count in requests.items():
        limiter = limiters.get(site)
        pace = limiter.seconds_per_request if limiter is not None else None
        if pace is None:
            pace = max(mean, limiter.delay_seconds if limiter is not None else 0.0)
        longest = max(longest, count * pace)
    return longest
