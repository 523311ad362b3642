"""Prometheus metrics of the engine, read from its counters when the page is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client import Metric

    from serving.api.openai_endpoint import LoadedModel
    from serving.engine.engine_stats import Histogram

_PREFIX = "modelmill_engine"


class EngineCollector:
    """Collector of one served model; the label ``model`` is its name.

    Args:
        served: the model.
    """

    def __init__(self, served: LoadedModel) -> None:
        self.served = served

    def collect(self) -> Iterator[Metric]:
        """The metrics as they stand."""
        engine = self.served.engine
        counts, stats = engine.counts, engine.stats
        rows, waiting = engine.busy
        yield self._gauge("rows_in_use", "Answers that are decoded", rows)
        yield self._gauge("slots", "Answers that may be decoded together", engine.limits.slots)
        yield self._gauge("queue_length", "Requests that wait for a slot", waiting)
        yield self._counter("requests", "Answers that were queued", {"": counts.requests})
        yield self._counter("refused", "Answers refused by a full queue", {"": counts.refused})
        tokens = {
            "prompt": counts.prompt_tokens,
            "prompt_read": stats.prompt_tokens_read,
            "completion": counts.completion_tokens,
        }
        yield self._counter(
            "tokens", "Tokens: of prompts, of those what the model read, of answers", tokens
        )
        yield self._counter("steps", "Steps of the model", {"": stats.steps})
        yield self._histogram("step_rows", "Rows of a step", stats.step_rows)
        yield self._counter(
            "prefix_hits", "Prompts that began like one read before", {"": counts.prefix_hits}
        )
        yield self._counter(
            "prefix_tokens", "Tokens of prompts not read again", {"": counts.prefix_tokens}
        )
        yield self._histogram("queue_seconds", "Seconds to an answer's slot", stats.queue)
        yield self._histogram(
            "time_to_first_token_seconds", "Seconds to an answer's first token", stats.first_token
        )
        yield self._histogram(
            "time_per_token_seconds",
            "Mean seconds between an ended answer's tokens",
            stats.token_seconds,
        )

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
