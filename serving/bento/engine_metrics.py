"""Prometheus metrics of the engine: histograms of what it observes, counters as they stand.

Plain integers, since a step of a small model takes less than a call of a metrics library; the page
of metrics reads them when it is asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

    from serving.api.answers.loaded_model import LoadedModel

_PREFIX = "modelmill_engine"
_WAIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
"""From a small model's prefill to a minute in the queue."""
_TOKEN_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
"""From 4,000 tokens a second of a model of some million weights to one."""
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
"""Powers of two up to the most slots that there can be."""
_HISTOGRAMS: dict[str, tuple[str, tuple[float, ...]]] = {
    "queue_seconds": ("Seconds that a request waited for a slot", _WAIT_SECONDS),
    "first_token_seconds": ("Seconds from a request to its first token", _WAIT_SECONDS),
    "token_seconds": ("Mean seconds between an ended answer's tokens", _TOKEN_SECONDS),
    "step_seconds": ("Seconds of a step that decodes", _TOKEN_SECONDS),
    "step_rows": ("Rows that a step decodes", _ROWS),
}
"""Name of an observed figure -> its description and its buckets."""


class Histogram:
    """Counts of values by bucket, and their sum.

    Args:
        bounds: upper bounds of the buckets, rising; a last bucket has none.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds, self.total = bounds, 0.0
        self.counts = [0] * (len(bounds) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, values up to it), as Prometheus has histograms."""
        seen = 0
        pairs: list[tuple[str, float]] = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            pairs.append(("+Inf" if bound == float("inf") else f"{bound:g}", seen))
        return pairs


class EngineCollector:
    """Collector of one served model; the label ``model`` is its name.

    Args:
        served: the model, whose engine is observed from here on.
    """

    def __init__(self, served: LoadedModel) -> None:
        self.served = served
        self.histograms = {name: Histogram(bounds) for name, (_, bounds) in _HISTOGRAMS.items()}
        served.engine.observe = self.observe

    def observe(self, name: str, value: float) -> None:
        """Count a value that the engine observed; a figure that is not shown here is left out."""
        histogram = self.histograms.get(name)
        if histogram is not None:
            histogram.add(value)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        engine = self.served.engine
        counts = engine.counts
        rows, waiting = engine.busy
        yield self._gauge("rows_in_use", "Answers that are decoded", rows)
        yield self._gauge("slots", "Answers that may be decoded together", engine.limits.slots)
        yield self._gauge("queue_length", "Requests that wait for a slot", waiting)
        yield self._gauge("prefix_bytes", "Memory of prompts read before", engine.prefix_bytes)
        yield self._counter("requests", "Answers that were queued", {"": counts.requests})
        yield self._counter("refused", "Answers refused by the queue", {"": counts.refused})
        tokens = {
            "prompt": counts.prompt_tokens,
            "prefix": counts.prefix_tokens,
            "completion": counts.completion_tokens,
        }
        yield self._counter(
            "tokens", "Tokens: of prompts, of those what was read before, of answers", tokens
        )
        yield self._counter(
            "prefix_hits", "Prompts that began like one before", {"": counts.prefix_hits}
        )
        yield self._counter("steps", "Steps that decoded", {"": counts.steps})
        for name, histogram in self.histograms.items():
            yield self._histogram(name, _HISTOGRAMS[name][0], histogram)

    def _gauge(self, name: str, text: str, value: float) -> Metric:
        from prometheus_client.core import GaugeMetricFamily

        metric = GaugeMetricFamily(f"{_PREFIX}_{name}", text, labels=["model"])
        metric.add_metric([self.served.model], value)
        return metric

    def _counter(self, name: str, text: str, values: Mapping[str, float]) -> Metric:
        """A counter, by kind where there is more than one.

        Args:
            name: without the prefix.
            text: its description.
            values: kind -> value; the kind of a single one is empty.
        """
        from prometheus_client.core import CounterMetricFamily

        labels = ["model"] if "" in values else ["model", "kind"]
        metric = CounterMetricFamily(f"{_PREFIX}_{name}", text, labels=labels)
        for kind, value in values.items():
            metric.add_metric([self.served.model, *([kind] if kind else [])], value)
        return metric

    def _histogram(self, name: str, text: str, histogram: Histogram) -> Metric:
        from prometheus_client.core import HistogramMetricFamily

        metric = HistogramMetricFamily(f"{_PREFIX}_{name}", text, labels=["model"])
        metric.add_metric([self.served.model], histogram.cumulative(), histogram.total)
        return metric
