"""Terminal view of a page's history; crawls or corpora with equal facts share one section."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from components.collect.scrape_config import FILES_DATE
from flows.runner.progress_display import rows_table

SHOWN_DIGITS = 12
"""Digits of a key or digest that are shown: enough to be unique, short enough for a table."""


def show_page(console: Console, value: dict[str, Any]) -> None:
    """Print crawls, verdicts, and everything made of the corpora that kept the page."""
    print_line(console, value["page"], bold=True)
    for order in value["orders"]:
        print_line(
            console, f"to be forgotten since {order['time']} ({order['target']}): {order['why']}"
        )
    judged = {crawl for verdict in value["verdicts"] for crawl in verdict["crawls"]}
    for crawls, lines in _group_by_lines(
        _crawl_section(crawl, crawl["crawl"] in judged) for crawl in value["crawls"]
    ):
        _print_section(console, f"crawl {', '.join(crawls)}", lines)
    for corpora, lines in _group_by_lines(
        _verdict_section(verdict) for verdict in value["verdicts"]
    ):
        _print_section(console, f"\ncorpus {', '.join(corpora)}", lines)
    for use in value["reached"]:
        print_line(console, f"\nmade of corpus {use['corpus'][:SHOWN_DIGITS]}", bold=True)
        rows = dict.fromkeys(_use_rows(use))
        console.print(rows_table(("what", "which", ""), list(rows)))
    if value["verdicts"] and not value["reached"]:
        print_line(console, "no corpus keeps it: it is in no dataset and no model")


def _group_by_lines(
    sections: Iterable[tuple[str, tuple[str, ...]]],
) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """(names, lines) for each distinct set of lines, in the order of first occurrence."""
    named: dict[tuple[str, ...], list[str]] = {}
    for name, lines in sections:
        names = named.setdefault(lines, [])
        if name not in names:
            names.append(name)
    yield from ((names, lines) for lines, names in named.items())


def _kept_reason(row: dict[str, Any]) -> str:
    """Words for a kept page, with what its server's failure or its oddity was."""
    # Ledgers of earlier versions have no such columns.
    trouble, note = row.get("trouble"), row.get("note")
    if trouble:
        return f"kept as it was before ({trouble})"
    return f"kept ({note})" if note else "kept"


def _outcome(row: dict[str, Any], is_file: bool) -> str:
    """A row of a crawl's ledger in words."""
    unasked = row.get("unasked") or 0
    if unasked > 1:
        return f"{row['reason']}: one of {unasked:,} links that were not followed, as {row['url']}"
    if unasked:
        return f"{row['reason']}: not asked for"
    answered = "read from a file" if is_file else f"answered {row['status']}"
    return (
        f"{row['reason'] or _kept_reason(row)}: "
        f"{answered if row['status'] else 'not asked or no answer'}, {row['bytes']:,} bytes"
    )


def _crawl_section(crawl: dict[str, Any], judged: bool) -> tuple[str, tuple[str, ...]]:
    files = crawl["as_of"] == FILES_DATE
    lines = [f"  {_outcome(row, files)}" for row in crawl["fetched"]]
    lines += [
        f"  set aside at extraction{'' if row['finished'] else ', which did not end well'}: "
        f"{row['reason']}"
        for row in crawl["set_aside"]
    ]
    fetched = [row for row in crawl["fetched"] if not row["reason"]]
    if fetched and not crawl["documents"] and not crawl["set_aside"]:
        lines.append("  no finished extraction of this crawl holds a text of it")
    elif crawl["documents"] and not judged:
        lines.append("  extracted, and not judged by `select` yet")
    when = "" if files else f" of {crawl['as_of'] or '?'}"
    return f"{crawl['crawl'][:SHOWN_DIGITS]}{when}", tuple(dict.fromkeys(lines))


def _verdict_section(verdict: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    reasons = ", ".join(verdict["reasons"])
    judged = f"document {verdict['document']}, judged by {verdict['rules']} rules"
    if verdict["kept"]:
        lines = [f"  kept: {judged}"]
    elif verdict["rules"] or "duplicate_of" in verdict:
        lines = [f"  dropped by {reasons}: {judged}"]
    else:  # a row of a file that holds no document
        lines = [f"  set aside: {reasons}"]
    if "row" in verdict:
        lines.append(f"  row {verdict['row']}")
    lines += [
        f"  {rule['rule']} is {rule['score']:.4g}, must be {_bounds_text(rule)}"
        for rule in verdict["failed"]
    ]
    if "duplicate_of" in verdict:
        original = verdict["duplicate_of"]
        lines.append(
            f"  duplicate of {original['url'] or original['document']}: similarity "
            f"{original['similarity']:.3f}, from {original['max_similarity']:g} on"
        )
    if "licence" in verdict:
        lines.append(f"  shows the licence {verdict['licence']}")
    if "item" in verdict:
        lines.append(f"  holds the evaluation item {verdict['item']}")
    lines += [f"  {span['count']} × {span['kind']}: {span['action']}" for span in verdict["spans"]]
    stage = "conversations" if "row" in verdict else "select"
    unfinished = "" if verdict["finished"] else f" of a `{stage}` that did not end well"
    return f"{verdict['corpus'][:SHOWN_DIGITS]}{unfinished}", tuple(lines)


def _print_section(console: Console, title: str, lines: Iterable[str]) -> None:
    print_line(console, title, bold=True)
    for line in lines:
        print_line(console, line)


def _bounds_text(rule: dict[str, Any]) -> str:
    sides = (("at least", rule["at_least"]), ("at most", rule["at_most"]))
    return " and ".join(f"{word} {bound:.4g}" for word, bound in sides if bound is not None)


def _use_rows(use: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield from (("dataset", name, "in DVC") for name in use["datasets"])
    for node in use["tokens"]:
        facts = f"{node['tokens']:,} tokens, {node['split']} split"
        yield "tokens", node["key"][:SHOWN_DIGITS], facts
    yield from (("tokenizer", node["key"][:SHOWN_DIGITS], "") for node in use["tokenizers"])
    for node in use["instructions"]:
        facts = f"{node['train']} for training, {node['heldout']} held out"
        yield "instructions", node["key"][:SHOWN_DIGITS], facts
    held = "" if use["trained_on"] else ", trained without it: it is held out"
    for node in use["models"]:
        yield "model", node["key"][:SHOWN_DIGITS], node["stage"] + held
    for version in use["versions"]:
        yield "version", f"{version['model']}/{version['version']}", format_version_state(version)
        yield from (("Bento", f"modelmill:{bento}", "") for bento in version["bentos"])


def format_version_state(version: dict[str, Any]) -> str:
    """State of a version in a line: aliases, served or not, orders to forget it."""
    parts = [", ".join(version["aliases"])]
    parts += ["served by the endpoint now"] if version["served_now"] else []
    parts += [f"to be forgotten: {version['forgotten']}"] if version["forgotten"] else []
    return "; ".join(part for part in parts if part)


def print_line(console: Console, line: str, bold: bool = False) -> None:
    """Print a line of foreign text, none of which is markup.

    Args:
        console: the terminal.
        line: plain text.
        bold: True for headings.
    """
    console.print(Text(line, style="bold" if bold else ""), soft_wrap=True)
