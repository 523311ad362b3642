"""Terminal display of a run: a live line for the stage at work, a line for each done."""

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
from components.core.store.artifact import ASIDE, DROPPED_BY, Artifact
from flows.runner.remaining_time import Forecast
from flows.runner.runner import COMPLETED, StepResult

_MARKS = {COMPLETED: ("✓", "green")}
_OTHER = ("=", "cyan")
SHOWN_RULES = 3


def figure(artifact: Artifact) -> str:
    """A stage's key figure, the first stat beside its seconds; what it set aside or dropped, and
    the rules that dropped most.
    """
    aside = [
        f"{value:,.0f} {name.removeprefix(ASIDE).replace('_', ' ')}"
        for name, value in artifact.stats.items()
        if name.startswith(ASIDE) and value
    ]
    for name, value in artifact.stats.items():
        if name != "seconds":
            shown = f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"
            lost = f"; set aside: {', '.join(aside)}" if aside else ""
            return f"{name.replace('_', ' ')} {shown}{lost}{_dropped(artifact.stats)}"
    return ""


def _dropped(stats: Mapping[str, float]) -> str:
    """``; dropped 60: min_words 40, language 15, twin 9`` by the most frequent rules."""
    rules = {
        name.removeprefix(DROPPED_BY): count
        for name, count in stats.items()
        if name.startswith(DROPPED_BY) and count
    }
    if not rules:
        return ""
    most = sorted(rules.items(), key=lambda rule: (-rule[1], rule[0]))[:SHOWN_RULES]
    told = ", ".join(f"{rule} {count:,.0f}" for rule, count in most)
    more = ", ..." if len(rules) > SHOWN_RULES else ""
    return f"; dropped {stats.get('dropped', 0.0):,.0f}: {told}{more}"


def outcome(result: StepResult) -> str:
    """What a step came to: its own note or a stage's key figure, and whether it resumed."""
    said = result.note or result.artifact.note or figure(result.artifact)
    parts = [said, result.said if result.resumed else ""]
    return "; ".join(part for part in parts if part)


def duration(seconds: float) -> str:
    """``0.04 s``, ``12.3 s``, ``4:05``."""
    if seconds >= 100:
        return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"


def quantity(value: float) -> str:
    """``950``, ``12.3k``, ``4.5M``."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if letter == 'k' else size):.1f}{letter}"
    return f"{value:.0f}" if value >= 10 or float(value).is_integer() else f"{value:.1f}"


class Display:
    """Shows a run on the console; without a terminal, a line a finished stage."""

    def __init__(self, console: Console, forecast: Forecast | None = None) -> None:
        self.console = console
        self._forecast = forecast or Forecast()
        self.results: list[StepResult] = []
        self._live: Live | None = None
        self._began = time.monotonic()

    def started(self, name: str) -> None:
        self._began = time.monotonic()
        if self.console.is_terminal:
            expected = self._forecast.of(name)
            told = "?" if expected is None else duration(expected)
            parts = [f"{name:<15}", *([] if expected == 0.0 else [f"ETA {told}"])]
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
            left = self._forecast.stage_left(name, time.monotonic() - self._began)
        parts = [progress_line(name, progress, left), *self._run_left(name, left)]
        self._live.update(Text(f"… {'  '.join(parts)}"))

    def _run_left(self, name: str, stage_left: float | None) -> list[str]:
        """``run: about 6 min left``; nothing where no step's time is known."""
        left = self._forecast.run_left(name, stage_left)
        if left is None:
            return []
        seconds, whole = left
        minutes = f"{seconds / 60:.0f} min" if seconds >= 90 else f"{seconds:.0f} s"
        return [f"run: {'about' if whole else 'more than'} {minutes} left"]

    def finished(self, result: StepResult) -> None:
        self.stop()
        self._forecast.end(result.name)
        self.results.append(result)
        mark, colour = _MARKS.get(result.state, _OTHER)
        line = Text.assemble(
            (f"{mark} ", colour),
            f"{result.name:<15}",
            (f"{result.state:<10}", colour),
            f"{duration(result.seconds):>8}  ",
            (outcome(result), "dim"),
        )
        self.console.print(line, soft_wrap=True)

    def failed(self, name: str, error: BaseException) -> None:
        self.stop()
        if not isinstance(error, KeyboardInterrupt):  # a stop has a line of its own
            self.console.print(Text.assemble(("✗ ", "red"), name), soft_wrap=True)

    def stop(self) -> None:
        """Show no live line any more."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def progress_line(name: str, progress: Progress, left: float | None = None) -> str:
    """How far a step is: a bar where its end is known, the count, the rate, the time left.

    Args:
        left: seconds left where they are known otherwise than by the present rate.
    """
    left = progress.eta_seconds if left is None else left
    parts = [f"{name:<15}"]
    if progress.total:
        share = min(progress.done / progress.total, 1.0)
        parts.append(f"{'━' * int(20 * share):<20} {100 * share:3.0f} %")
        parts.append(f"{quantity(progress.done)}/{quantity(progress.total)} {progress.unit}")
    else:
        parts.append(f"{quantity(progress.done)} {progress.unit}")
    parts.append(f"{quantity(progress.rate)}/s")
    if left is not None:
        parts.append(f"ETA {duration(left)}")
    parts.append(progress.note)
    return "  ".join(part for part in parts if part)


def closing_table(results: Sequence[StepResult]) -> Table:
    """Stage, seconds, cached or not, key figure."""
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
            escape(outcome(result)),
        )
    total = sum(result.seconds for result in results)
    table.add_section()
    table.add_row("total", "", f"{total:.1f}", "")
    return table


def rows_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    """A plain table of strings, shown as they are: what a person wrote is no markup."""
    table = Table(header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    return table


def gates_table(gates: Sequence[Mapping[str, Any]]) -> Table:
    """The record of a version's gates (``gates.json``), a gate a row."""
    table = Table(header_style="bold", pad_edge=False)
    for column in ("", "gate", "figure", "found, 95 %", "must be"):
        # A figure's name has no spaces to break at, and must not be cut.
        table.add_column(column, no_wrap=column == "figure")
    for gate in gates:
        name = gate["gate"].removesuffix(f" in {gate['figure']}")
        mark = "[green]✓[/green]" if gate["passes"] else "[red]✗[/red]"
        told = (name, gate["figure"], _found(gate), _bound(gate))
        table.add_row(mark, *(escape(text) for text in told))
    return table


def _found(gate: Mapping[str, Any]) -> str:
    value, low, high = (gate.get(end, gate["found"]) for end in ("value", "low", "high"))
    interval = "" if low == high else f" ({low:.4g} to {high:.4g})"
    if gate.get("pairs") is None:
        return f"{value:.4g}{interval}"
    rule = gate["rule"].partition(":")[0]
    shared = f"{gate['pairs']} items, {gate['pages']} pages shared"
    return f"{'difference ' if rule == 'paired' else ''}{value:.4g}{interval}; {rule}: {shared}"


def _bound(gate: Mapping[str, Any]) -> str:
    if gate["bound"] is None:
        return str(gate["bound_is"])
    end = "" if gate["on"] == "value" else f"{gate['on']} end "
    named = f" ({gate['bound_is']})" if gate.get("bound_is") else ""
    return f"{end}{gate['direction']} {gate['bound']:.4g}{named}"
