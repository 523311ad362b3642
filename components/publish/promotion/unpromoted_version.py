"""The newest version where none is the champion: what keeps it back, and the ways on."""

from __future__ import annotations

from components.core.settings import Settings
from components.publish.bento_folders import find_newest_bento
from components.publish.promotion.approvals import list_pending
from components.publish.promotion.gates import describe_refusal
from components.publish.promotion.next_commands import MAKES_ONE, serve_command, suggest_commands
from components.publish.promotion.promote import read_verdicts
from components.publish.registry.model_registry import GATES_TAG, forgotten_orders, list_versions


def describe_newest(settings: Settings, model: str | None = None) -> str:
    """The newest version and what keeps it from being the champion, with the ways on.

    Args:
        settings: workspace whose registry, Bentos and pending approvals are read.
        model: only versions of this one; None looks at all.

    Raises:
        DataError: the record of its gates, or of what waits for a person, cannot be read.
    """
    versions = list_versions(settings, model)
    if not versions:
        others = sorted({entry.model for entry in list_versions(settings)})
        there = f"models: {', '.join(others)}" if others else MAKES_ONE
        return f"no version of {model or 'any model'} is registered; {there}"
    entry = versions[0]
    named = f"{entry.model}/{entry.version}"
    newest = f"{named}, the newest version,"
    orders = forgotten_orders(entry)
    if orders:
        return (
            f"{newest} was made of what is to be forgotten ({', '.join(orders)}); "
            f"`modelmill forget {orders[0]} --rebuild` makes one without it"
        )
    if find_newest_bento(settings, entry) is None:
        return f"{newest} is not packed; run the preset or file that made it again, which packs it"
    if any(pending.named == named for pending in list_pending(settings)):
        approve = f'`modelmill approve {named} --yes --why "…"` lets it through'
        return f"{newest} waits for a person; {approve}, {serve_command(entry)}"
    verdicts = read_verdicts(settings, entry)
    refused = [verdict for verdict in verdicts if not verdict.passes]
    if refused:
        ways = suggest_commands(entry, refused)
        return f"{newest} was refused by {describe_refusal(refused)}; {ways}"
    if entry.tags.get(GATES_TAG) is None:
        again = "run the preset or file that made it again, which goes on from there"
        return f"{newest} was not judged, its run ended before; {again}; {suggest_commands(entry)}"
    promote = f"`modelmill promote {named}` makes it the champion"
    return f"{newest} has passed its gates and was not promoted; {promote}, {serve_command(entry)}"
