"""Terminal report of a garbage collection."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from components.core.store.gc_plan import Deletion, GcPlan
from flows.operations.retention.collect_garbage import GarbageCollection
from flows.runner.progress_display import format_bytes, rows_table

MAX_LINES = 40
"""Deletions listed for one place; the rest is summed up."""


def show_collection(console: Console, collection: GarbageCollection, verb: str) -> None:
    """Print deletions with reasons for each place, then what is kept and why.

    Args:
        console: the terminal.
        collection: planned or carried out.
        verb: ``would go`` or ``deleted``.
    """
    for plan in collection.plans:
        if plan.deletions:
            count = f"{len(plan.deletions)} {verb}, {format_bytes(plan.size)}"
            console.print(f"[bold]{plan.place}[/bold]: {count}")
            console.print(rows_table(("what", "size", "why"), _deletion_rows(plan)))
        for note in plan.notes:
            console.print(f"  {escape(note)}")
    retained = [
        (plan.place, str(retained.count), format_bytes(retained.size) if retained.size else "", why)
        for plan in collection.plans
        for why, retained in plan.retained.items()
    ]
    if retained:
        console.print("[bold]kept[/bold]")
        console.print(rows_table(("where", "count", "size", "why"), retained))
    if collection.trash_bytes:
        console.print(
            f"trash of an earlier collection: {format_bytes(collection.trash_bytes)} {verb}"
        )
    console.print(_closing_line(collection, verb))


def _deletion_rows(plan: GcPlan) -> list[tuple[str, str, str]]:
    largest = sorted(plan.deletions, key=lambda item: -item.size)
    rows = [
        (escape(item.name), format_bytes(item.size), escape(item.why))
        for item in largest[:MAX_LINES]
    ]
    rest: list[Deletion] = largest[MAX_LINES:]
    if rest:
        rows.append(
            (f"{len(rest)} more", format_bytes(sum(item.size for item in rest)), "--json lists all")
        )
    return rows


def _closing_line(collection: GarbageCollection, verb: str) -> str:
    if collection.is_empty:
        return "nothing to delete: everything here is needed or recent"
    return f"[bold]{format_bytes(collection.size)}[/bold] {verb}"
