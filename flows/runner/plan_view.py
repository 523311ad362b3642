"""A plan as a person sees it and as a program reads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from components.collect.scrape import ScrapeConfig
from flows.configs.prices import Prices
from flows.runner.plan_runner import ACTION, CACHED, RUNS, WAITS, Planned, Reason
from flows.runner.progress_display import duration

_WORDS = {CACHED: "cached", RUNS: "would run", WAITS: "unless equal"}
_COLOURS = {CACHED: "cyan", RUNS: "yellow", WAITS: "magenta"}
_ACTIONS = {
    None: "action",
    True: "[cyan]unchanged[/cyan]",
    False: "[yellow]would act[/yellow]",
}
_MANY, _SHOWN = 4, 2
_FILES = "digests."
"""Begins the field of a file's digest, as ``scrape`` looks at it."""


@dataclass(frozen=True)
class Plan:
    """Every step of a run as it would go, and what that takes."""

    steps: list[Planned]
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
        """Why a run would end before its first step, a line each."""
        return [step.refusal for step in self.steps if step.refusal is not None]

    def totals(self) -> dict[str, Any]:
        """Seconds and cost: for certain, and where no input comes out equal.

        ``unknown`` names the steps that may run and whose time nothing tells; the sums lack them.
        """
        work = [step for step in self.steps if step.state != CACHED and not step.unchanged]
        sure = [step for step in work if step.state == RUNS or step.unchanged is False]
        unknown = [step.name for step in work if step.seconds is None]
        return {"certain": self._sum(sure), "at_most": self._sum(work), "unknown": unknown}

    def _sum(self, steps: Sequence[Planned]) -> dict[str, Any]:
        seconds = sum(step.seconds or 0.0 for step in steps)
        cost = self.prices.of(seconds) if self.prices else None
        return {"steps": len(steps), "seconds": round(seconds, 3), "cost": cost}

    def show(self, console: Console) -> None:
        """A table that folds at any width, then the sums."""
        table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("stage", no_wrap=True)
        table.add_column("plan", no_wrap=True)
        table.add_column("expected", justify="right", no_wrap=True)
        if self.prices:
            table.add_column(self.prices.currency, justify="right", no_wrap=True)
        table.add_column("because", overflow="fold")
        for step in self.steps:
            cost = [_money(step.cost)] if self.prices else []
            because = _because(step.reasons, len(getattr(step.config, "digests", ())))
            table.add_row(step.name, _state(step), _expected(step), *cost, because)
        console.print(table)
        console.print()
        for line in self._closing():
            console.print(line, highlight=False)

    def _closing(self) -> list[str]:
        totals = self.totals()
        sure, most = totals["certain"], totals["at_most"]
        if not most["steps"]:
            return ["nothing to do: every stage is cached, every action would be unchanged"]
        lines = [f"would run: {_told(sure, self.prices)}"]
        if most["steps"] > sure["steps"]:
            lines.append(f"with all that may follow: {_told(most, self.prices)}")
        if any(step.state == WAITS for step in self.steps):
            lines.append("unless equal: runs unless its input comes out equal")
        if totals["unknown"]:
            lines.append(f"not in the sums, since they never ran: {', '.join(totals['unknown'])}")
        lines += [
            f"{step.name}: {step.minutes_budget}"
            for step in self.steps
            if step.minutes_budget is not None and step.state != CACHED
        ]
        if any(step.expected_from == "speed" for step in self.steps):
            lines.append("stages that never ran here: expected from this machine's measured speed")
        lines += [
            f"{step.name}: at least {duration(step.seconds)} if there are "
            f"{step.config.max_pages:,} pages, for the pauses between requests to a host"
            for step in self.steps
            if step.expected_from == "pauses"
            and step.seconds is not None
            and isinstance(step.config, ScrapeConfig)
        ]
        return [*lines, *(f"the run would be refused: {line}" for line in self.refusals)]


def _told(total: dict[str, Any], prices: Prices | None) -> str:
    steps = f"{total['steps']} step{'' if total['steps'] == 1 else 's'}"
    cost = f", {_money(total['cost'])} {prices.currency}" if prices else ""
    return f"{steps}, about {duration(total['seconds'])}{cost}"


def _state(step: Planned) -> str:
    if step.state == ACTION:
        return {
            None: "action",
            True: "[cyan]unchanged[/cyan]",
            False: "[yellow]would act[/yellow]",
        }[step.unchanged]
    return f"[{_COLOURS[step.state]}]{_WORDS[step.state]}[/]"


def _expected(step: Planned) -> str:
    if step.state == CACHED or step.unchanged:
        return ""
    return "?" if step.seconds is None else duration(step.seconds)


def _money(cost: float | None) -> str:
    if cost is None:
        return "?"
    return f"{cost:.2f}" if cost >= 0.1 or cost == 0 else f"{cost:.4f}"


def _because(reasons: Sequence[Reason], files: int) -> str:
    """A line a reason; many modules, inputs or files as the first ones and a count."""
    lines = _changed_files([reason for reason in reasons if _of_file(reason)], files)
    reasons = [reason for reason in reasons if not _of_file(reason)]
    for kind in dict.fromkeys(reason.kind for reason in reasons):
        mine = [reason for reason in reasons if reason.kind == kind]
        if kind == "parent":
            lines += _inputs(mine)
        elif kind == "code" and len(mine) >= _MANY:
            named = ", ".join(reason.what for reason in mine[:_SHOWN])
            lines.append(f"code of {named} and {len(mine) - _SHOWN} more")
        else:
            lines += [_short(str(reason)) for reason in mine]
    return "\n".join(line.replace("[", "\\[") for line in lines)


def _of_file(reason: Reason) -> bool:
    return reason.kind == "config" and reason.what.startswith(_FILES)


def _changed_files(reasons: Sequence[Reason], files: int) -> list[str]:
    """``3 of 60 files changed, 1 new: a.md, b.md, c.md and 1 more``; nothing without a reason."""
    if not reasons:
        return []
    came = sum(reason.old is None for reason in reasons)
    gone = sum(reason.new is None for reason in reasons)
    changed = len(reasons) - came - gone
    counts = ((changed, "changed"), (came, "new"), (gone, "gone"))
    first, *others = [f"{count} {word}" for count, word in counts if count]
    number, _, word = first.partition(" ")
    told = ", ".join([f"{number} of {files} files {word}", *others])
    names = [reason.what.removeprefix(_FILES).rpartition("/")[2] for reason in reasons]
    more = f" and {len(names) - _MANY + 1} more" if len(names) > _MANY else ""
    return [f"{told}: {', '.join(names[: _MANY - 1] if more else names)}{more}"]


def _inputs(reasons: Sequence[Reason]) -> list[str]:
    """Inputs, those with one cause on one line."""
    causes: dict[tuple[str, ...], list[str]] = {}
    for reason in reasons:
        cause = tuple(step for step in reason.since if step != reason.step)
        origin = (
            reason.what if reason.step in (None, reason.what) else f"{reason.what} ({reason.step})"
        )
        causes.setdefault(cause, []).append(origin)
    lines = []
    for cause, roles in causes.items():
        named = ", ".join(
            roles if len(roles) < _MANY else [*roles[:_SHOWN], f"{len(roles) - _SHOWN} more"]
        )
        since = f", since {', '.join(cause)} would run" if cause else ""
        lines.append(f"input {named}{since}")
    return lines


def _short(line: str, most: int = 300) -> str:
    return line if len(line) <= most else line[: most - 1] + "…"
