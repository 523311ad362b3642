"""Table and JSON of a run plan, with the sums of its expected time and cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from components.collect.scrape_config import ScrapeConfig
from flows.configs.prices import Prices
from flows.runner.plan_runner import (
    IS_ACTION,
    IS_CACHED,
    RUNS_UNLESS_EQUAL,
    WOULD_RUN,
    PlannedStep,
    RerunReason,
)
from flows.runner.progress_display import format_duration

_STATE_WORDS = {IS_CACHED: "cached", WOULD_RUN: "would run", RUNS_UNLESS_EQUAL: "unless equal"}
_STATE_COLOURS = {IS_CACHED: "cyan", WOULD_RUN: "yellow", RUNS_UNLESS_EQUAL: "magenta"}
_ACTION_WORDS = {
    None: "action",
    True: "[cyan]unchanged[/cyan]",
    False: "[yellow]would act[/yellow]",
}
_MANY_ITEMS, _SHOWN_ITEMS = 4, 2
_FILE_DIGEST_PREFIX = "digests."
"""Prefix of the config fields in which ``scrape`` keeps a digest for each of its files."""


@dataclass(frozen=True)
class RunPlan:
    """Steps of a run as it would go, with expected seconds and cost."""

    steps: list[PlannedStep]
    prices: Prices | None = None

    def as_json(self) -> dict[str, Any]:
        """The whole plan as one JSON object."""
        return {
            "plan": [step.as_json() for step in self.steps],
            "totals": self.totals(),
            "currency": self.prices.currency if self.prices else None,
            "refused": self.refusals,
        }

    @property
    def refusals(self) -> list[str]:
        """Refusals of training budgets, for which a run would end before its first step."""
        return [step.refusal for step in self.steps if step.refusal is not None]

    def totals(self) -> dict[str, Any]:
        """Seconds and cost of the steps that run for certain, and of all that may run.

        ``unknown`` names the steps that may run and have no estimate; the sums lack them.
        """
        work = [step for step in self.steps if step.state != IS_CACHED and not step.unchanged]
        certain = [step for step in work if step.state == WOULD_RUN or step.unchanged is False]
        unknown = [step.name for step in work if step.seconds is None]
        return {"certain": self._sum(certain), "at_most": self._sum(work), "unknown": unknown}

    def _sum(self, steps: Sequence[PlannedStep]) -> dict[str, Any]:
        seconds = sum(step.seconds or 0.0 for step in steps)
        cost = self.prices.cost_of(seconds) if self.prices else None
        return {"steps": len(steps), "seconds": round(seconds, 3), "cost": cost}

    def show(self, console: Console) -> None:
        """Print a table that folds at any width, then the sums."""
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("stage", no_wrap=True)
        table.add_column("plan", no_wrap=True)
        table.add_column("expected", justify="right", no_wrap=True)
        if self.prices:
            table.add_column(self.prices.currency, justify="right", no_wrap=True)
        table.add_column("because", overflow="fold")
        for step in self.steps:
            cost = [_money(step.cost)] if self.prices else []
            because = _reasons_cell(step.reasons, len(getattr(step.config, "digests", ())))
            table.add_row(step.name, _state_cell(step), _expected_cell(step), *cost, because)
        console.print(table)
        console.print()
        for line in self._closing():
            console.print(line, highlight=False)

    def _closing(self) -> list[str]:
        totals = self.totals()
        certain, at_most = totals["certain"], totals["at_most"]
        if not at_most["steps"]:
            return ["nothing to do: every stage is cached, every action would be unchanged"]
        lines = [f"would run: {_totals_line(certain, self.prices)}"]
        if at_most["steps"] > certain["steps"]:
            lines.append(f"with all that may follow: {_totals_line(at_most, self.prices)}")
        if any(step.state == RUNS_UNLESS_EQUAL for step in self.steps):
            lines.append("unless equal: runs unless its input comes out equal")
        if totals["unknown"]:
            lines.append(f"not in the sums, since they never ran: {', '.join(totals['unknown'])}")
        lines += [
            f"{step.name}: {step.minutes_budget}"
            for step in self.steps
            if step.minutes_budget is not None and step.state != IS_CACHED
        ]
        if any(step.expected_from == "speed" for step in self.steps):
            lines.append("stages that never ran here: expected from this machine's measured speed")
        lines += [
            f"{step.name}: at least {format_duration(step.seconds)} if there are "
            f"{step.config.max_pages:,} pages, for the pauses between requests to a host"
            for step in self.steps
            if step.expected_from == "pauses"
            and step.seconds is not None
            and isinstance(step.config, ScrapeConfig)
        ]
        return [*lines, *(f"the run would be refused: {line}" for line in self.refusals)]


def _totals_line(total: dict[str, Any], prices: Prices | None) -> str:
    steps = f"{total['steps']} step{'' if total['steps'] == 1 else 's'}"
    cost = f", {_money(total['cost'])} {prices.currency}" if prices else ""
    return f"{steps}, about {format_duration(total['seconds'])}{cost}"


def _state_cell(step: PlannedStep) -> str:
    if step.state == IS_ACTION:
        return _ACTION_WORDS[step.unchanged]
    return f"[{_STATE_COLOURS[step.state]}]{_STATE_WORDS[step.state]}[/]"


def _expected_cell(step: PlannedStep) -> str:
    if step.state == IS_CACHED or step.unchanged:
        return ""
    return "?" if step.seconds is None else format_duration(step.seconds)


def _money(cost: float | None) -> str:
    if cost is None:
        return "?"
    return f"{cost:.2f}" if cost >= 0.1 or cost == 0 else f"{cost:.4f}"


def _reasons_cell(reasons: Sequence[RerunReason], files: int) -> str:
    """One line a reason; many modules, inputs or files as the first ones and a count."""
    lines = _changed_files([reason for reason in reasons if _is_about_file(reason)], files)
    reasons = [reason for reason in reasons if not _is_about_file(reason)]
    for kind in dict.fromkeys(reason.kind for reason in reasons):
        of_kind = [reason for reason in reasons if reason.kind == kind]
        if kind == "parent":
            lines += _input_lines(of_kind)
        elif kind == "code" and len(of_kind) >= _MANY_ITEMS:
            modules = ", ".join(reason.subject for reason in of_kind[:_SHOWN_ITEMS])
            lines.append(f"code of {modules} and {len(of_kind) - _SHOWN_ITEMS} more")
        else:
            lines += [_truncated(str(reason)) for reason in of_kind]
    return "\n".join(line.replace("[", "\\[") for line in lines)


def _is_about_file(reason: RerunReason) -> bool:
    return reason.kind == "config" and reason.subject.startswith(_FILE_DIGEST_PREFIX)


def _changed_files(reasons: Sequence[RerunReason], files: int) -> list[str]:
    """``3 of 60 files changed, 1 new: a.md, b.md, c.md and 1 more``; nothing without a reason."""
    if not reasons:
        return []
    added = sum(reason.old is None for reason in reasons)
    removed = sum(reason.new is None for reason in reasons)
    changed = len(reasons) - added - removed
    counts = ((changed, "changed"), (added, "new"), (removed, "gone"))
    first, *others = [f"{count} {word}" for count, word in counts if count]
    number, _, word = first.partition(" ")
    counts_line = ", ".join([f"{number} of {files} files {word}", *others])
    names = [
        reason.subject.removeprefix(_FILE_DIGEST_PREFIX).rpartition("/")[2] for reason in reasons
    ]
    more = f" and {len(names) - _MANY_ITEMS + 1} more" if len(names) > _MANY_ITEMS else ""
    return [f"{counts_line}: {', '.join(names[: _MANY_ITEMS - 1] if more else names)}{more}"]


def _input_lines(reasons: Sequence[RerunReason]) -> list[str]:
    """Changed inputs, those with the same causes on one line."""
    causes: dict[tuple[str, ...], list[str]] = {}
    for reason in reasons:
        cause = tuple(step for step in reason.root_causes if step != reason.step)
        origin = (
            reason.subject
            if reason.step in (None, reason.subject)
            else f"{reason.subject} ({reason.step})"
        )
        causes.setdefault(cause, []).append(origin)
    lines = []
    for cause, roles in causes.items():
        named = ", ".join(
            roles
            if len(roles) < _MANY_ITEMS
            else [*roles[:_SHOWN_ITEMS], f"{len(roles) - _SHOWN_ITEMS} more"]
        )
        since = f", since {', '.join(cause)} would run" if cause else ""
        lines.append(f"input {named}{since}")
    return lines


def _truncated(line: str, limit: int = 300) -> str:
    return line if len(line) <= limit else line[: limit - 1] + "…"
