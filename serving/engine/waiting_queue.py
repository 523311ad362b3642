"""Sequences, and the bounded queue in which they wait for a row, fair between clients.

A number of requests says little of a wait: 64 of them are half a second of a small model and a
minute of a large one. So the queue is as long as the wait that a newcomer can expect, by the time
between the rows that became free lately (Little's law: what waits is the pace times the wait).

The next row goes to the client with the fewest rows in use, then to the one that waits longest.
A full queue drops from the client that holds most (stochastic fairness queueing's rule for its
longest queue: McKenney, INFOCOM 1990), so that one who asks much is refused before one who asks
little.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from serving.engine.prefix_cache import PrefixBlocks

IDLE = -1
"""In place of a token: nothing for this row in this step (as in ``ragged_runtime``)."""
RECENT_ADMISSIONS = 32
"""Moments at which rows were given that count: few enough to follow answers that grow longer."""
LEAST_ROWS = 8
"""Rows given before the pace is known: single answers differ in length."""


class QueueFull(Exception):
    """As many requests wait as may."""


class QueueTimeout(QueueFull):
    """A request waited for a row as long as it may."""


@dataclass(eq=False)
class DecodingSequence:
    """One sequence: its prompt, and how far it is."""

    prompt: Sequence[int]
    client: str = ""
    """Rows are shared out between clients."""
    adapter: int = 0
    """Number of the adapter that its row computes with; 0 is none."""
    cached: int = 0
    """Tokens of the prompt that are in the cache."""
    fed: int = 0
    """Tokens of the answer that are in the cache."""
    last_token: int = IDLE
    """The token drawn last, not yet in the cache."""
    finished: bool = False
    """Finished or given up: its row is freed at the next step."""
    failure: Exception | None = None
    """Why it ended without an answer."""
    arrived: float = 0.0
    """Moment it was queued, by the scheduler's clock."""
    admitted: float | None = None
    """Moment it got a row."""
    blocks: PrefixBlocks | None = None
    """Of the prompt, once it was compared with what was read before."""
    begun: bool = False
    """Reading the prompt may begin: what was read of it before is in the cache."""
    source: DecodingSequence | None = None
    """A row that reads the same ``source_length`` tokens just now; this one waits to copy them."""
    source_length: int = 0
    cached_prompt_tokens: int = 0
    """Tokens of the prompt that were copied and not read."""

    @property
    def decoding(self) -> bool:
        """The whole prompt has been read."""
        return self.cached == len(self.prompt)

    def cached_tokens(self) -> Sequence[int]:
        """Tokens in the cache."""
        return self.prompt[: self.cached]

    def admit(self, now: float) -> None:
        """Take a row."""
        self.admitted = now

    def fail(self, error: Exception) -> None:
        """End without an answer."""
        self.failure, self.finished = error, True

    def run_out(self) -> None:
        """End since its time is over."""
        self.finished = True


@dataclass
class WaitingQueue:
    """Queues of the clients, each in the order of arrival."""

    clients: dict[str, deque[DecodingSequence]] = field(default_factory=dict)
    refused: int = 0
    """Sequences that were refused, at once or while they waited."""

    def __len__(self) -> int:
        """Sequences that wait, those included that gave up since the queue was last swept."""
        return sum(map(len, self.clients.values()))

    def __iter__(self) -> Iterator[DecodingSequence]:
        """All that wait, client by client."""
        return (job for queue in self.clients.values() for job in queue)

    def submit(self, job: DecodingSequence, most: int, rows: Counter[str]) -> None:
        """Queue a sequence; one of a client that holds more may be refused in its place.

        Args:
            job: the newcomer.
            most: sequences that may wait.
            rows: rows in use, by client.

        Raises:
            QueueFull: the newcomer is the one that is refused.
        """
        if self._is_full(most):
            self._drop_newest(job.client, rows)
        self.clients.setdefault(job.client, deque()).append(job)

    def refuses(self, client: str, most: int, rows: Counter[str]) -> bool:
        """True if a client's newcomer would be the one that is refused.

        Args:
            client: the newcomer's.
            most: sequences that may wait.
            rows: rows in use, by client.
        """
        return self._is_full(most) and self._find_larger(client, rows) is None

    def take(self, rows: Counter[str]) -> DecodingSequence | None:
        """Take the next sequence for a free row; None if nobody waits.

        Args:
            rows: rows in use, by client; the one taken is counted.
        """
        self._drop_finished_heads()
        if not self.clients:
            return None
        client = min(
            self.clients, key=lambda name: (rows[name], self.clients[name][0].arrived, name)
        )
        queue = self.clients[client]
        job = queue.popleft()
        if not queue:
            del self.clients[client]
        rows[client] += 1
        return job

    def expire(self, before: float) -> None:
        """Refuse those that arrived before a moment."""
        for queue in self.clients.values():
            while queue and queue[0].arrived < before:
                job = queue.popleft()
                if not job.finished:
                    job.fail(QueueTimeout("no row became free in time"))
                    self.refused += 1
        self._drop_finished_heads()

    def clear(self) -> None:
        """Forget all."""
        self.clients.clear()

    def _is_full(self, most: int) -> bool:
        """True if as many wait as may, those left out that gave up."""
        if len(self) >= most:
            self._sweep()
        return len(self) >= most

    def _drop_newest(self, client: str, rows: Counter[str]) -> None:
        """Refuse the newest of the client that holds most, if that is fairer than the newcomer.

        Raises:
            QueueFull: it is not.
        """
        self.refused += 1
        larger = self._find_larger(client, rows)
        if larger is None:
            raise QueueFull
        self.clients[larger].pop().fail(QueueFull())
        if not self.clients[larger]:
            del self.clients[larger]

    def _find_larger(self, client: str, rows: Counter[str]) -> str | None:
        """The client that holds most, if it holds so many more than a newcomer's.

        Only where the shares come closer: else two clients would take turns to oust each other.
        """
        held = {name: rows[name] + len(queue) for name, queue in self.clients.items()}
        largest = max(held, key=lambda name: held[name], default=client)
        if held.get(largest, 0) <= held.get(client, rows[client]) + 1:
            return None
        return largest

    def _sweep(self) -> None:
        """Forget those that gave up."""
        for name, queue in list(self.clients.items()):
            waiting = deque(job for job in queue if not job.finished)
            if waiting:
                self.clients[name] = waiting
            else:
                del self.clients[name]

    def _drop_finished_heads(self) -> None:
        for name, queue in list(self.clients.items()):
            while queue and queue[0].finished:
                queue.popleft()
            if not queue:
                del self.clients[name]


@dataclass
class QueuePace:
    """Pace of one queue; seconds come in, numbers go out."""

    _gaps: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=RECENT_ADMISSIONS))
    """(seconds until rows were given, their number), where all rows were in use meanwhile."""
    _since: float | None = None
    """Moment from which on all rows are in use and somebody waits."""

    def note_step(self, now: float, admitted: int, *, crowded: bool) -> None:
        """Record a step of the scheduler.

        Args:
            now: moment of the step.
            admitted: waiting requests that got rows in it.
            crowded: all rows are in use after it, and somebody waits.
        """
        if admitted and self._since is not None:
            self._gaps.append((now - self._since, admitted))
        if not crowded:
            self._since = None
        elif admitted or self._since is None:
            self._since = now

    def count_served(self, seconds: float) -> float:
        """Requests that get rows in so many seconds; infinite while the pace is not known."""
        rows = sum(count for _, count in self._gaps)
        taken = sum(gap for gap, _ in self._gaps)
        if rows < LEAST_ROWS or taken <= 0:
            return float("inf")
        return seconds * rows / taken
