"""How a collection looks on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from components.core.store.gc_plan import Deletion, GcPlan
from flows.operations.retention.collect_garbage import Collection
from flows.runner.progress_display import rows_table

MOST_LINES = 40
"""Of what goes in one place; the rest is summed up."""


def size(value: float) -> str:
    """``950 B``, ``12.3 kB``, ``4.5 GB``."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if value >= power:
            return f"{value / power:.1f} {unit}"
    return f"{value:.0f} B"


def show(console: Console, found: Collection, verb: str) -> None:
    """What goes and why, by place; then what stays and why."""
    for sweep in found.sweeps:
        if sweep.deletions:
            title = f"[bold]{sweep.place}[/bold]: {len(sweep.deletions)} {verb}, {size(sweep.size)}"
            console.print(title)
            console.print(rows_table(("what", "size", "why"), _rows(sweep)))
        for note in sweep.notes:
            console.print(f"  {escape(note)}")
    kept = [
        (sweep.place, str(kept.count), size(kept.size) if kept.size else "", why)
        for sweep in found.sweeps
        for why, kept in sweep.retained.items()
    ]
    if kept:
        console.print("[bold]stays[/bold]")
        console.print(rows_table(("where", "count", "size", "why"), kept))
    if found.waiting:
        console.print(f"trash of an earlier collection: {size(found.waiting)} {verb}")
    console.print(_closing(found, verb))


def _rows(sweep: GcPlan) -> list[tuple[str, str, str]]:
    largest = sorted(sweep.deletions, key=lambda item: -item.size)
    rows = [(escape(item.name), size(item.size), escape(item.why)) for item in largest[:MOST_LINES]]
    rest: list[Deletion] = largest[MOST_LINES:]
    if rest:
        rows.append(
            (f"{len(rest)} more", size(sum(item.size for item in rest)), "--json lists all")
        )
    return rows


def _closing(found: Collection, verb: str) -> str:
    if found.empty:
        return "nothing to delete: everything here is needed or young"
    return f"[bold]{size(found.size)}[/bold] {verb}"
