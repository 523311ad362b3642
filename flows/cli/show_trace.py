"""``modelmill trace``: where a page went, or what a model was made of, as a person reads it."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console

from components.collect.web.urls import normalise_url
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.lineage.known_addresses import (
    file_address,
    known_addresses,
    match_spellings,
    resolve_address,
)
from components.lineage.trace import MOST_LISTED, trace_model, trace_page
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.registry.model_registry import CHAMPION, RegisteredVersion, list_versions
from flows.cli.show_page import SHORT, say, show_page, standing
from flows.cli.show_workspace import Answer
from flows.runner.progress_display import rows_table

_DOCUMENT = re.compile("[0-9a-f]{32}")
_MODEL = re.compile(r"([^/@]+)(/\d+|@.*)?")


def trace(settings: Settings, what: str) -> Answer:
    """A page (its address or a document's id), or MODEL, MODEL/VERSION, MODEL@ALIAS.

    Raises:
        ConfigError: nothing is named so.
    """
    found = list_versions(settings)
    page = None if _is_model(what, found) else _page(settings, what)
    if page is not None:
        value = trace_page(settings, page)
        return Answer(value, lambda console: show_page(console, value))
    value = trace_model(settings, choose(found, what))
    return Answer(value, lambda console: _show_model(console, value))


def _is_model(what: str, found: list[RegisteredVersion]) -> bool:
    named = _MODEL.fullmatch(what)
    return named is not None and named[1] in {entry.model for entry in found}


def _page(settings: Settings, what: str) -> str | None:
    """A document's id, or an address in the spelling that crawls use; None for no page.

    A file may be given by its path, a page without its scheme.
    """
    if _DOCUMENT.fullmatch(what) or what.startswith("file:"):
        return what
    if "://" in what:
        url = normalise_url(what)
        if url is None:
            raise ConfigError(f"{what}: not an address (https://site.example/page)")
        return url
    known = known_addresses(settings)
    path = file_address(what, known)
    if path is not None:
        return path
    if match_spellings(what, known) or "/" in what or "." in what:
        return resolve_address(what, known)
    return None


def choose(found: list[RegisteredVersion], what: str) -> RegisteredVersion:
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
    there = ", ".join(known) or f"none yet, {MAKES_ONE}"
    raise ConfigError(f"{what}: no such page, model or version; versions: {there}")


def _show_model(console: Console, value: dict[str, Any]) -> None:
    say(console, f"{value['model']} version {value['version']}", bold=True)
    say(console, f"{standing(value) or 'no alias'}; bundle {value['bundle'][:SHORT]}")
    if value["bentos"]:
        say(console, f"Bento {', '.join(f'modelmill:{name}' for name in value['bentos'])}")
    for crawl in value["crawls"]:
        given = f" from {', '.join(crawl['from'][:3])}" if crawl["from"] else ""
        pages = f"{crawl['pages']:,} pages of {crawl['as_of']}"
        say(console, f"crawl {crawl['key'][:SHORT]}: {pages}, {crawl['source']}{given}")
    for dataset in value["datasets"]:
        say(console, f"dataset {dataset['name']} in DVC")
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
            *(node[name][:SHORT] for name in ("key", "config", "digest")),
        )
        for node in value["chain"]
    ]
    console.print(rows_table(("made by", "key", "config", "content"), rows))
    for digest, roles in value["gone"].items():
        say(console, f"gone: {digest[:SHORT]}, which was {', '.join(roles)}")


def _show_sources(console: Console, sources: dict[str, Any]) -> None:
    if "unknown" in sources:
        say(console, f"sources unknown: {sources['unknown']}")
        return
    say(
        console,
        f"{sources['train_tokens']:,} training tokens of {sources['train_pages']:,} pages; "
        f"{sources['heldout_pages']:,} pages held out",
    )
    hosts = [
        (f"{100 * one['share']:.2f} %", f"{one['tokens']:,}", f"{one['pages']:,}", one["host"])
        for one in sources["hosts"][:MOST_LISTED]
    ]
    console.print(rows_table(("share", "tokens", "pages", "host"), hosts))
    pages = [
        (f"{100 * one['share']:.2f} %", f"{one['tokens']:,}", one["url"])
        for one in sources["largest"]
    ]
    console.print(rows_table(("share", "tokens", "largest pages"), pages))
