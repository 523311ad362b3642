"""Training monitor: the progress line, and metrics and text samples for a tracker.

Loss, bits per byte, tokens a second, the share of the machine's measured peak rate (MFU; the
formula is in ``components/train/budget/flop_count.py``) and memory; the progress line adds step,
share done and time left. A tracker gets them in batches, for a single metric costs MLflow
milliseconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol

import psutil
import torch

from components.core.store.workdir import Workdir
from components.core.tracking import NoTracker, Tracker
from components.train.budget.step_plan import StepProgress
from components.train.training_config import OptimConfig

RATE_SECONDS = 1.0
"""Seconds over which the shown rate is averaged."""
FLUSH_SECONDS = 10.0
SAMPLE_TIMES = 8
"""Number of times that text is sampled during a training."""


class MonitoredJob(Protocol):
    """Attributes of a job that the monitor reads."""

    @property
    def optim(self) -> OptimConfig: ...
    @property
    def bits_per_loss(self) -> float | None: ...
    @property
    def flops(self) -> Callable[[StepProgress], float] | None: ...
    @property
    def peak_flops(self) -> float | None: ...
    @property
    def sample_text(self) -> Callable[[], str] | None: ...


class TrainingMonitor:
    """Monitor of one try of a training, as a context manager."""

    def __init__(self, job: MonitoredJob, work: Workdir) -> None:
        self._job, self._progress = job, work.progress
        self._tracker: Tracker = NoTracker()
        self._process = psutil.Process()
        self._targets = self._flops = self._all_targets = self._all_flops = 0.0
        self._sampled = -1
        self._now_rate = 0.0
        self._now_share: float | None = None

    def __enter__(self) -> TrainingMonitor:
        # Opened before the clock starts: MLflow takes seconds to import.
        self._tracker = self._progress.open_tracker()
        self._began = self._noted_at = self._flushed_at = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._tracker.close(failed=error is not None)

    @property
    def rate(self) -> float:
        """Targets a second since the start of the try."""
        return self._all_targets / self._seconds

    @property
    def operations_per_second(self) -> float:
        """Operations a second since the start of the try; 0 where the job does not count them."""
        return self._all_flops / self._seconds

    @property
    def utilisation(self) -> float | None:
        """Share of the measured peak rate since the start of the try (MFU)."""
        return self.operations_per_second / self._job.peak_flops if self._job.peak_flops else None

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._began, 1e-6)

    def record_step(self, row: Sequence[float], point: StepProgress) -> None:
        """Record a step: (step, loss, rate factor, gradient norm, targets)."""
        step, loss, factor, norm, targets = row
        flops = targets * self._job.flops(point) if self._job.flops else 0.0
        self._targets += targets
        self._flops += flops
        self._all_targets += targets
        self._all_flops += flops
        number = int(step)
        self._measure(number)
        figures = {"loss": loss, "gradient_norm": norm, **self._rates(factor)}
        if self._job.bits_per_loss is not None:
            figures["bits_per_byte"] = loss * self._job.bits_per_loss
        for name, value in figures.items():
            self._tracker.log_metric(name, value, number)
        self._sample(number, point.progress + point.stride)
        self._flush()
        self._progress.advance(1, note=self._line(loss, figures.get("bits_per_byte")))

    def _rates(self, factor: float) -> dict[str, float]:
        optim = self._job.optim
        peak = optim.muon_lr if optim.kind == "muon" else optim.adam_lr
        return {"learning_rate": peak * factor}

    def _measure(self, step: int) -> None:
        now = time.monotonic()
        seconds = now - self._noted_at
        if seconds <= RATE_SECONDS:
            return
        self._now_rate = self._targets / seconds
        if self._job.peak_flops and self._job.flops:
            self._now_share = self._flops / seconds / self._job.peak_flops
            self._tracker.log_metric("utilisation", self._now_share, step)
        self._tracker.log_metric("tokens_per_second", self._now_rate, step)
        self._tracker.log_metric("memory_mb", self._memory() / 1e6, step)
        self._targets = self._flops = 0.0
        self._noted_at = now

    def _memory(self) -> float:
        """Bytes in use: of the GPU where one computes, else of this process."""
        if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
            return float(torch.cuda.max_memory_allocated())
        return float(self._process.memory_info().rss)

    def _sample(self, step: int, progress: float) -> None:
        """Track a text sample, ``SAMPLE_TIMES`` times in a training."""
        part = int(min(progress, 1.0) * SAMPLE_TIMES)
        if self._job.sample_text is None or isinstance(self._tracker, NoTracker):
            return
        if part > max(self._sampled, 0):
            self._sampled = part
            self._tracker.log_text(f"samples/step-{step + 1:08d}.txt", self._job.sample_text())

    def _flush(self) -> None:
        if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
            self._tracker.flush()
            self._flushed_at = time.monotonic()

    def _line(self, loss: float, bits: float | None) -> str:
        parts = [f"loss {loss:.3f}"]
        if bits is not None:
            parts.append(f"{bits:.3f} bits/byte")
        parts.append(f"{self._now_rate:,.0f} tokens/s")
        if self._now_share is not None:
            parts.append(f"MFU {100 * self._now_share:.0f} %")
        parts.append(f"{self._memory() / 1e9:.1f} GB")
        return " · ".join(parts)
