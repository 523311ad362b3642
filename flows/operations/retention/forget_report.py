"""Terminal report of an order to forget, and of its verification."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from components.lineage.affected_copies import AffectedCopies
from flows.operations.retention.forget import ForgetOutcome
from flows.runner.progress_display import format_bytes

_MAX_PAGES_LISTED = 20
"""Pages that are listed one by one; the rest is counted."""


def show_verified(console: Console, value: dict[str, Any]) -> None:
    """Print where a page, domain or text still is."""
    for hit in value["found"]:
        console.print(f"found: {hit['path']} ({hit['where']})", markup=False, soft_wrap=True)
    for name in value["unread"]:
        console.print(f"could not be read: {name}", markup=False, soft_wrap=True)
    if value.get("named") and not value["found"]:
        console.print(f"only its address remains, in {len(value['named'])} files")
    console.print("nothing of it is left" if value["clean"] else "it is not proven to be gone")


def show_forgotten(console: Console, outcome: ForgetOutcome) -> None:
    """Print what the order affects, what was done, and the next step."""
    _show_affected(console, outcome.affected)
    if outcome.runs:
        console.print(f"runs: {', '.join(outcome.runs)}", soft_wrap=True)
    for rebuild in outcome.rebuilds:
        if rebuild.name and not outcome.rebuilt:
            console.print(f"to be rebuilt: {rebuild.name} (run {rebuild.run})", soft_wrap=True)
    if outcome.dry_run:
        for plan in outcome.plans:
            if plan.deletions:
                size = format_bytes(plan.size)
                console.print(f"a purge takes {len(plan.deletions)} of {plan.place}, {size}")
        console.print("dry run: nothing was recorded, rebuilt or deleted")
        return
    console.print(
        f"{'recorded' if outcome.new else 'already recorded'}: forget {outcome.target}; "
        "all future runs exclude it",
        markup=False,
        soft_wrap=True,
    )
    for run in outcome.rebuilt:
        console.print(f"rebuilt without it: run {run}")
    if outcome.refused:
        console.print(f"not promoted: {outcome.refused}", markup=False, soft_wrap=True)
    if outcome.purged is not None:
        parts = ", ".join(f"{count} {what}" for what, count in outcome.purged.items())
        console.print(f"deleted for good: {parts}")
        for hit in outcome.left:
            console.print(f"  still in {hit.path} ({hit.where})", markup=False, soft_wrap=True)
        if not outcome.left:
            console.print("its sentences are nowhere left in the workspace")
        if outcome.target.startswith("file:"):
            console.print("the file it was read from is yours, outside the workspace: delete it")
        if outcome.affected.served_now:
            console.print("the endpoint may still hold the old model: restart it")
    elif outcome.affected:
        console.print(
            f"next: [bold]modelmill forget {escape(outcome.target)} --rebuild --purge[/bold]",
            soft_wrap=True,
        )


def _show_affected(console: Console, affected: AffectedCopies) -> None:
    listing = affected.as_json()
    if not affected:
        console.print("nothing in this workspace holds it or was made from it")
    for url in affected.pages[:_MAX_PAGES_LISTED]:
        console.print(f"page {url}", markup=False, soft_wrap=True)
    if len(affected.pages) > _MAX_PAGES_LISTED:
        console.print(f"and {len(affected.pages) - _MAX_PAGES_LISTED} more pages")
    for kind, count in listing["kinds"].items():
        console.print(f"{count:>4} × {kind}")
    for name in listing["datasets"]:
        console.print(f"dataset {name} in DVC's cache, remote and workspace")
    for version in listing["versions"]:
        aliases = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
        console.print(f"model {version['model']} version {version['version']}{aliases}")
    for name in listing["bentos"]:
        console.print(f"Bento modelmill:{name} with its smoke report and log")
    if listing["unfinished"]:
        console.print(f"{len(listing['unfinished'])} unfinished stages, of unknown content")
    for url in listing["near_duplicates"][:_MAX_PAGES_LISTED]:
        console.print(
            f"outside the order, with (nearly) the same text: {url}", markup=False, soft_wrap=True
        )
    if listing["untold"]:
        console.print(
            f"{len(listing['untold'])} artifacts, unreadable or of a gone corpus: unknown"
        )
