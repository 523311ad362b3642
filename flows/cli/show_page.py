"""Where a page went, as a person reads it: what is told of several crawls or corpora, once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from components.collect.scrape_config import FILES_DATE
from flows.runner.progress_display import rows_table

SHORT = 12
"""Digits of a key or digest that are shown."""


def show_page(console: Console, value: dict[str, Any]) -> None:
    """Crawls, verdicts, and what was made of the corpora that kept it."""
    say(console, value["page"], bold=True)
    for order in value["orders"]:
        say(console, f"to be forgotten since {order['time']} ({order['target']}): {order['why']}")
    judged = {crawl for told in value["verdicts"] for crawl in told["crawls"]}
    for crawls, lines in _together(
        _crawl(crawl, crawl["crawl"] in judged) for crawl in value["crawls"]
    ):
        _show(console, f"crawl {', '.join(crawls)}", lines)
    for corpora, lines in _together(_verdict(told) for told in value["verdicts"]):
        _show(console, f"\ncorpus {', '.join(corpora)}", lines)
    for reached in value["reached"]:
        say(console, f"\nmade of corpus {reached['corpus'][:SHORT]}", bold=True)
        rows = dict.fromkeys(_rows(reached))
        console.print(rows_table(("what", "which", ""), list(rows)))
    if value["verdicts"] and not value["reached"]:
        say(console, "no corpus keeps it: it is in no dataset and no model")


def _together(
    told: Iterable[tuple[str, tuple[str, ...]]],
) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """(names, lines) for each different set of lines, in the order of the first."""
    named: dict[tuple[str, ...], list[str]] = {}
    for name, lines in told:
        names = named.setdefault(lines, [])
        if name not in names:
            names.append(name)
    yield from ((names, lines) for lines, names in named.items())


def _kept(row: dict[str, Any]) -> str:
    """A page of an ill server is kept as an earlier crawl has it."""
    trouble = row.get("trouble")  # ledgers of before it was told have no such column
    return f"kept as it was before ({trouble})" if trouble else "kept"


def _crawl(crawl: dict[str, Any], judged: bool) -> tuple[str, tuple[str, ...]]:
    files = crawl["as_of"] == FILES_DATE
    answered = "read from a file" if files else "answered {status}"
    lines = [
        f"  {row['reason'] or _kept(row)}: "
        f"{answered.format(**row) if row['status'] else 'not asked or no answer'}, "
        f"{row['bytes']:,} bytes"
        for row in crawl["fetched"]
    ]
    lines += [
        f"  set aside at extraction{'' if row['finished'] else ', which did not end well'}: "
        f"{row['reason']}"
        for row in crawl["set_aside"]
    ]
    kept = [row for row in crawl["fetched"] if not row["reason"]]
    if kept and not crawl["documents"] and not crawl["set_aside"]:
        lines.append("  no finished extraction of this crawl holds a text of it")
    elif crawl["documents"] and not judged:
        lines.append("  extracted, and not judged by `select` yet")
    when = "" if files else f" of {crawl['as_of'] or '?'}"
    return f"{crawl['crawl'][:SHORT]}{when}", tuple(dict.fromkeys(lines))


def _verdict(told: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    word = "kept" if told["kept"] else f"dropped by {', '.join(told['reasons'])}"
    lines = [f"  {word}: document {told['document']}, judged by {told['rules']} rules"]
    lines += [
        f"  {rule['rule']} is {rule['score']:.4g}, must be {_bounds(rule)}"
        for rule in told["failed"]
    ]
    if "twin" in told:
        twin = told["twin"]
        lines.append(
            f"  twin of {twin['url'] or twin['document']}: similarity {twin['similarity']:.3f}, "
            f"from {twin['max_similarity']:g} on"
        )
    if "licence" in told:
        lines.append(f"  shows the licence {told['licence']}")
    if "item" in told:
        lines.append(f"  holds the evaluation item {told['item']}")
    lines += [f"  {span['count']} × {span['kind']}: {span['action']}" for span in told["spans"]]
    unfinished = "" if told["finished"] else " of a `select` that did not end well"
    return f"{told['corpus'][:SHORT]}{unfinished}", tuple(lines)


def _show(console: Console, title: str, lines: Iterable[str]) -> None:
    say(console, title, bold=True)
    for line in lines:
        say(console, line)


def _bounds(rule: dict[str, Any]) -> str:
    sides = (("at least", rule["at_least"]), ("at most", rule["at_most"]))
    return " and ".join(f"{word} {bound:.4g}" for word, bound in sides if bound is not None)


def _rows(reached: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    yield from (("dataset", name, "in DVC") for name in reached["datasets"])
    for node in reached["tokens"]:
        told = f"{node['tokens']:,} tokens, {node['split']} split"
        yield "tokens", node["key"][:SHORT], told
    yield from (("tokenizer", node["key"][:SHORT], "") for node in reached["tokenizers"])
    for node in reached["instructions"]:
        told = f"{node['train']} for training, {node['heldout']} held out"
        yield "instructions", node["key"][:SHORT], told
    held = "" if reached["trained_on"] else ", trained without it: it is held out"
    for node in reached["models"]:
        yield "model", node["key"][:SHORT], node["component"].rpartition(".")[2] + held
    for version in reached["versions"]:
        yield "version", f"{version['model']}/{version['version']}", standing(version)
        yield from (("Bento", f"modelmill:{bento}", "") for bento in version["bentos"])


def standing(version: dict[str, Any]) -> str:
    """A version's aliases, whether it is served, and whether it is to be forgotten."""
    parts = [", ".join(version["aliases"])]
    parts += ["served by the endpoint now"] if version["served_now"] else []
    parts += [f"to be forgotten: {version['forgotten']}"] if version["forgotten"] else []
    return "; ".join(part for part in parts if part)


def say(console: Console, line: str, bold: bool = False) -> None:
    """A line that holds foreign text: nothing in it is markup."""
    console.print(Text(line, style="bold" if bold else ""), soft_wrap=True)
