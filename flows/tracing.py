"""``modelmill trace``: where a page went, or what a model was made of, as a person reads it."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console
from rich.text import Text

from components.collect.urls import normalise
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.lineage.trace import LARGEST, trace_model, trace_page
from components.publish.registry import CHAMPION, Entry, entries
from flows.display import rows_table
from flows.showing import Answer

_DOCUMENT = re.compile("[0-9a-f]{32}")
_SHORT = 12


def trace(settings: Settings, what: str) -> Answer:
    """A page (its address or a document's id), or MODEL, MODEL/VERSION, MODEL@ALIAS.

    Raises:
        ConfigError: nothing is named so.
    """
    found = entries(settings)
    if _is_page(what, found):
        value = trace_page(settings, _spelled(what))
        return Answer(value, lambda console: _show_page(console, value))
    value = trace_model(settings, choose(found, what))
    return Answer(value, lambda console: _show_model(console, value))


def _is_page(what: str, found: list[Entry]) -> bool:
    if "://" in what or _DOCUMENT.fullmatch(what):
        return True
    head = re.split("[/@]", what)[0]
    return "." in head and head not in {entry.model for entry in found}


def _spelled(what: str) -> str:
    """An address in the spelling that crawls use."""
    if _DOCUMENT.fullmatch(what) or what.startswith("file:"):
        return what
    url = normalise(what)
    if url is None:
        raise ConfigError(f"{what}: not an address; write it whole: https://{what}")
    return url


def choose(found: list[Entry], what: str) -> Entry:
    """The version that MODEL/VERSION or MODEL@ALIAS names; of MODEL the champion, else the newest.

    Raises:
        ConfigError: there is none; names what there is.
    """
    name, at, alias = what.partition("@")
    name, slash, version = name.partition("/")
    mine = [entry for entry in found if entry.model == name]
    for entry in mine:
        if str(entry.version) == version if slash else (alias or CHAMPION) in entry.aliases:
            return entry
    if mine and not at and not slash:
        return mine[0]
    known = sorted(f"{entry.model}/{entry.version}" for entry in mine or found)
    raise ConfigError(
        f"{what}: no such page, model or version; versions: {', '.join(known) or 'none yet'}"
    )


def _show_page(console: Console, value: dict[str, Any]) -> None:
    _print(console, value["page"], bold=True)
    for crawl in value["crawls"]:
        _print(console, f"crawl {crawl['crawl'][:_SHORT]} of {crawl['as_of'] or '?'}")
        for row in crawl["fetched"]:
            seen = f"answered {row['status']}" if row["status"] else "not asked or no answer"
            _print(console, f"  {row['reason'] or 'kept'}: {seen}, {row['bytes']:,} bytes")
        for row in crawl["set_aside"]:
            _print(console, f"  set aside at extraction: {row['reason']}")
    for told in value["verdicts"]:
        _show_verdict(console, told)
    for reached in value["reached"]:
        _show_reached(console, reached)
    if value["verdicts"] and not value["reached"]:
        _print(console, "no corpus keeps it: it is in no dataset and no model")


def _show_verdict(console: Console, told: dict[str, Any]) -> None:
    word = "kept" if told["kept"] else f"dropped by {', '.join(told['reasons'])}"
    _print(console, f"\ncorpus {told['corpus'][:_SHORT]}: {word}", bold=True)
    _print(console, f"  document {told['document']}, judged by {told['rules']} rules")
    for rule in told["failed"]:
        _print(console, f"  {rule['rule']} is {rule['score']:.4g}, must be {_bounds(rule)}")
    if "twin" in told:
        twin = told["twin"]
        _print(
            console,
            f"  twin of {twin['url'] or twin['document']}: similarity {twin['similarity']:.3f}, "
            f"from {twin['max_similarity']:g} on",
        )
    if "licence" in told:
        _print(console, f"  shows the licence {told['licence']}")
    if "item" in told:
        _print(console, f"  holds the evaluation item {told['item']}")
    for span in told["spans"]:
        _print(console, f"  {span['count']} × {span['kind']}: {span['action']}")


def _bounds(rule: dict[str, Any]) -> str:
    sides = (("at least", rule["at_least"]), ("at most", rule["at_most"]))
    return " and ".join(f"{word} {bound:.4g}" for word, bound in sides if bound is not None)


def _show_reached(console: Console, reached: dict[str, Any]) -> None:
    rows = [("dataset", name, "in DVC") for name in reached["datasets"]]
    rows += [
        ("tokens", node["key"][:_SHORT], f"{node['tokens']:,} tokens, {node['split']} split")
        for node in reached["tokens"]
    ]
    rows += [("tokenizer", node["key"][:_SHORT], "") for node in reached["tokenizers"]]
    rows += [
        (
            "instructions",
            node["key"][:_SHORT],
            f"{node['train']} for training, {node['heldout']} held out",
        )
        for node in reached["instructions"]
    ]
    held = "" if reached["trained_on"] else ", trained without it: it is held out"
    rows += [
        ("model", node["key"][:_SHORT], node["component"].rpartition(".")[2] + held)
        for node in reached["models"]
    ]
    for version in reached["versions"]:
        rows.append(("version", f"{version['model']}/{version['version']}", _standing(version)))
        rows += [("Bento", f"modelmill:{bento}", "") for bento in version["bentos"]]
    _print(console, "  reached", bold=True)
    console.print(rows_table(("what", "which", ""), rows))


def _standing(version: dict[str, Any]) -> str:
    parts = [", ".join(version["aliases"])]
    parts += ["served by the endpoint now"] if version["served_now"] else []
    parts += [f"to be forgotten: {version['forgotten']}"] if version["forgotten"] else []
    return "; ".join(part for part in parts if part)


def _show_model(console: Console, value: dict[str, Any]) -> None:
    _print(console, f"{value['model']} version {value['version']}", bold=True)
    _print(console, f"{_standing(value) or 'no alias'}; bundle {value['bundle'][:_SHORT]}")
    if value["bentos"]:
        _print(console, f"Bento {', '.join(f'modelmill:{name}' for name in value['bentos'])}")
    for crawl in value["crawls"]:
        given = f" from {', '.join(crawl['from'][:3])}" if crawl["from"] else ""
        pages = f"{crawl['pages']:,} pages of {crawl['as_of']}"
        _print(console, f"crawl {crawl['key'][:_SHORT]}: {pages}, {crawl['source']}{given}")
    for dataset in value["datasets"]:
        _print(console, f"dataset {dataset['name']} in DVC")
    for sources in value["sources"]:
        _show_sources(console, sources)
    losses = [
        (name, "; ".join(f"{k} {n:,}" for k, n in count.items()) or "none")
        if isinstance(count, dict)
        else (name, f"{count:,}")
        for name, count in value["dropped"].items()
    ]
    console.print(rows_table(("pages", "count"), losses))
    rows = [
        (
            node["component"].removeprefix("components."),
            *(node[name][:_SHORT] for name in ("key", "config", "digest")),
        )
        for node in value["chain"]
    ]
    console.print(rows_table(("made by", "key", "config", "content"), rows))
    for digest, roles in value["gone"].items():
        _print(console, f"gone: {digest[:_SHORT]}, which was {', '.join(roles)}")


def _show_sources(console: Console, sources: dict[str, Any]) -> None:
    if "unknown" in sources:
        _print(console, f"sources unknown: {sources['unknown']}")
        return
    _print(
        console,
        f"{sources['train_tokens']:,} training tokens of {sources['train_pages']:,} pages; "
        f"{sources['heldout_pages']:,} pages held out",
    )
    hosts = [
        (f"{100 * one['share']:.2f} %", f"{one['tokens']:,}", f"{one['pages']:,}", one["host"])
        for one in sources["hosts"][:LARGEST]
    ]
    console.print(rows_table(("share", "tokens", "pages", "host"), hosts))
    pages = [
        (f"{100 * one['share']:.2f} %", f"{one['tokens']:,}", one["url"])
        for one in sources["largest"]
    ]
    console.print(rows_table(("share", "tokens", "largest pages"), pages))


def _print(console: Console, line: str, bold: bool = False) -> None:
    """A line that holds foreign text: nothing in it is markup."""
    console.print(Text(line, style="bold" if bold else ""), soft_wrap=True)
