"""Terminal display of a run: a live line for the running step, a line for each finished one."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from components.core.progress import Progress
from components.core.store.artifact import DROPPED_BY_PREFIX, SET_ASIDE_PREFIX, Artifact
from flows.runner.remaining_time import Forecast
from flows.runner.runner import COMPLETED, StepResult

_STATE_MARKS = {COMPLETED: ("✓", "green")}
_DEFAULT_MARK = ("=", "cyan")
MOST_RULES_SHOWN = 3
_NAME_WIDTH = 17
"""Signs of a step's name: the longest, ``import_tokenizer``, and a space."""


def key_figure(artifact: Artifact) -> str:
    """Key figure of a stage: its first stat but the seconds, what it set aside or dropped, and the
    rules that dropped most.
    """
    set_aside = [
        f"{value:,.0f} {name.removeprefix(SET_ASIDE_PREFIX).replace('_', ' ')}"
        for name, value in artifact.stats.items()
        if name.startswith(SET_ASIDE_PREFIX) and value
    ]
    for name, value in artifact.stats.items():
        if name != "seconds":
            shown = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
            aside_part = f"; set aside: {', '.join(set_aside)}" if set_aside else ""
            return (
                f"{name.replace('_', ' ')} {shown}{aside_part}{_dropped_by_rules(artifact.stats)}"
            )
    return ""


def _dropped_by_rules(stats: Mapping[str, float]) -> str:
    """``; dropped 60: min_words 40, language 15, twin 9`` by the most frequent rules."""
    rules = {
        name.removeprefix(DROPPED_BY_PREFIX): count
        for name, count in stats.items()
        if name.startswith(DROPPED_BY_PREFIX) and count
    }
    if not rules:
        return ""
    most = sorted(rules.items(), key=lambda rule: (-rule[1], rule[0]))[:MOST_RULES_SHOWN]
    counts = ", ".join(f"{rule} {count:,.0f}" for rule, count in most)
    more = ", ..." if len(rules) > MOST_RULES_SHOWN else ""
    return f"; dropped {stats.get('dropped', 0.0):,.0f}: {counts}{more}"


def result_summary(result: StepResult) -> str:
    """Summary of a finished step: its own note or key figure, and the point it resumed from."""
    summary = result.note or result.artifact.note or key_figure(result.artifact)
    parts = [summary, result.remark if result.resumed else ""]
    return "; ".join(part for part in parts if part)


def format_duration(seconds: float) -> str:
    """``0.04 s``, ``12.3 s``, ``4:05``."""
    if seconds >= 100:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def format_quantity(value: float) -> str:
    """``950``, ``12.3k``, ``4.5M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{value:.0f}" if value >= 10 or float(value).is_integer() else f"{value:.1f}"


class ProgressDisplay:
    """Listener that shows a run on the console; without a terminal, a line a finished step."""

    def __init__(self, console: Console, forecast: Forecast | None = None) -> None:
        self.console = console
        self._forecast = forecast or Forecast()
        self.results: list[StepResult] = []
        self._live: Live | None = None
        self._began = time.monotonic()

    def started(self, name: str) -> None:
        self._began = time.monotonic()
        if self.console.is_terminal:
            expected = self._forecast.expected_seconds(name)
            eta = "?" if expected is None else format_duration(expected)
            parts = [f"{name:<{_NAME_WIDTH - 1}} ", *([] if expected == 0.0 else [f"ETA {eta}"])]
            line = "  ".join([*parts, *self._run_left(name, expected)])
            self._live = Live(
                Text(f"… {line}"), console=self.console, refresh_per_second=8, transient=True
            )
            self._live.start()

    def progressed(self, name: str, progress: Progress) -> None:
        if self._live is None:
            return
        left = progress.eta_seconds
        if left is None:  # no rate yet
            left = self._forecast.stage_seconds_left(name, time.monotonic() - self._began)
        parts = [progress_line(name, progress, left), *self._run_left(name, left)]
        self._live.update(Text(f"… {'  '.join(parts)}"))

    def _run_left(self, name: str, stage_left: float | None) -> list[str]:
        """``run: about 6 min left``; empty where no step's time is known."""
        left = self._forecast.run_seconds_left(name, stage_left)
        if left is None:
            return []
        seconds, is_complete = left
        minutes = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return [f"run: {'about' if is_complete else 'more than'} {minutes} left"]

    def finished(self, result: StepResult) -> None:
        self.stop()
        self._forecast.drop_step(result.name)
        self.results.append(result)
        mark, colour = _STATE_MARKS.get(result.state, _DEFAULT_MARK)
        line = Text.assemble(
            (f"{mark} ", colour),
            f"{result.name:<{_NAME_WIDTH - 1}} ",
            (f"{result.state:<10}", colour),
            f"{format_duration(result.seconds):>8}  ",
            (result_summary(result), "dim"),
        )
        self.console.print(line, soft_wrap=True)

    def failed(self, name: str, error: BaseException) -> None:
        self.stop()
        if not isinstance(error, KeyboardInterrupt):  # the command says itself that it was stopped
            self.console.print(Text.assemble(("✗ ", "red"), name), soft_wrap=True)

    def stop(self) -> None:
        """Remove the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_line(name: str, progress: Progress, remaining: float | None = None) -> str:
    """Progress of a step as one line: a bar where its end is known, count, rate, time left.

    Args:
        name: name of the step.
        progress: its counters.
        remaining: seconds left where they are known otherwise than by the present rate.
    """
    remaining = progress.eta_seconds if remaining is None else remaining
    parts = [f"{name:<{_NAME_WIDTH - 1}} "]
    if progress.total:
        share = min(progress.done / progress.total, 1.0)
        parts.append(f"{'━' * int(20 * share):<20} {100 * share:3.0f} %")
        parts.append(
            f"{format_quantity(progress.done)}/{format_quantity(progress.total)} {progress.unit}"
        )
    else:
        parts.append(f"{format_quantity(progress.done)} {progress.unit}")
    parts.append(f"{format_quantity(progress.rate)}/s")
    if remaining is not None:
        parts.append(f"ETA {format_duration(remaining)}")
    parts.append(progress.note)
    return "  ".join(part for part in parts if part)


def closing_table(results: Sequence[StepResult]) -> Table:
    """Closing table of a run: stage, state, seconds, key figure."""
    table = Table(title=None, header_style="bold", pad_edge=False)
    table.add_column("stage")
    table.add_column("state")
    table.add_column("seconds", justify="right")
    table.add_column("figure")
    for result in results:
        table.add_row(
            result.name,
            result.state,
            f"{result.seconds:.1f}",
            escape(result_summary(result)),
        )
    total = sum(result.seconds for result in results)
    table.add_section()
    table.add_row("total", "", f"{total:.1f}", "")
    return table


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """Plain table of cells, whose text is escaped: what a person wrote is no markup."""
    table = Table(header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def gates_table(gates: Sequence[Mapping[str, Any]]) -> Table:
    """Table of a version's gates (``gates.json``), a gate a row."""
    table = Table(header_style="bold", pad_edge=False)
    for column in ("", "gate", "figure", "found, 95 %", "must be"):
        # A figure's name has no spaces to break at, and must not be cut.
        table.add_column(column, no_wrap=column == "figure")
    for gate in gates:
        name = gate["gate"].removesuffix(f" in {gate['figure']}")
        mark = "[green]✓[/green]" if gate["passes"] else "[red]✗[/red]"
        cells = (name, gate["figure"], _found_cell(gate), _bound_cell(gate))
        table.add_row(mark, *(escape(text) for text in cells))
    return table


def _found_cell(gate: Mapping[str, Any]) -> str:
    value, low, high = (gate.get(end, gate["found"]) for end in ("value", "low", "high"))
    interval = "" if low == high else f" ({low:.4g} to {high:.4g})"
    if gate.get("pairs") is None:
        return f"{value:.4g}{interval}"
    rule = gate["rule"].partition(":")[0]
    shared = f"{gate['pairs']} items, {gate['pages']} pages shared"
    return f"{'difference ' if rule == 'paired' else ''}{value:.4g}{interval}; {rule}: {shared}"


def _bound_cell(gate: Mapping[str, Any]) -> str:
    if gate["bound"] is None:
        return str(gate["bound_is"])
    end = "" if gate["on"] == "value" else f"{gate['on']} end "
    named = f" ({gate['bound_is']})" if gate.get("bound_is") else ""
    return f"{end}{gate['direction']} {gate['bound']:.4g}{named}"


def format_bytes(value: float) -> str:
    """``950 B``, ``12.3 kB``, ``4.5 GB``."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= power:
            return f"{value / power:.1f} {unit}"
    return f"{value:.0f} B"
