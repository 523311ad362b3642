"""View of ``trace``: history of a page, or sources of a model."""

from __future__ import annotations

import re
from typing import Any

from rich.console import Console

from components.collect.web.urls import normalise_url
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.lineage.conversation_rows import find_row_address
from components.lineage.known_addresses import (
    file_address,
    known_addresses,
    match_spellings,
    resolve_address,
)
from components.lineage.trace import MOST_LISTED, trace_model, trace_page
from components.publish.promotion.next_commands import MAKES_ONE
from components.publish.registry.model_registry import CHAMPION, RegisteredVersion, list_versions
from flows.cli.views.page_view import SHOWN_DIGITS, format_version_state, print_line, show_page
from flows.cli.views.workspace_view import CommandResult
from flows.runner.progress_display import rows_table

_DOCUMENT = re.compile("[0-9a-f]{32}")
_MODEL = re.compile(r"([^/@]+)(/\d+|@.*)?")


def trace_page_or_model(settings: Settings, what: str) -> CommandResult:
    """Trace a page (URL, file or document id), or MODEL, MODEL/VERSION, MODEL@ALIAS.

    Raises:
        ConfigError: no page, model or version has this name.
    """
    versions = list_versions(settings)
    page = None if _is_model(what, versions) else _page_address(settings, what)
    if page is not None:
        value = trace_page(settings, page)
        return CommandResult(value, lambda console: show_page(console, value))
    value = trace_model(settings, choose_version(versions, what))
    return CommandResult(value, lambda console: _show_model(console, value))


def _is_model(what: str, versions: list[RegisteredVersion]) -> bool:
    named = _MODEL.fullmatch(what)
    return named is not None and named[1] in {entry.model for entry in versions}


def _page_address(settings: Settings, what: str) -> str | None:
    """Document id, or address in the normalised form of crawls; None if ``what`` is no page.

    A file may be named by its path, a row of a file by its number (``chats.jsonl:17``), and a URL
    without its scheme.
    """
    if _DOCUMENT.fullmatch(what) or what.startswith("file:"):
        return what
    if "://" in what:
        url = normalise_url(what)
        if url is None:
            raise ConfigError(f"{what}: not a URL (https://site.example/page)")
        return url
    row = find_row_address(settings, what)
    if row is not None:
        return row
    known = known_addresses(settings)
    path = file_address(what, known)
    if path is not None:
        return path
    if match_spellings(what, known) or "/" in what or "." in what:
        return resolve_address(what, known)
    return None


def choose_version(versions: list[RegisteredVersion], what: str) -> RegisteredVersion:
    """Choose the version named by MODEL/VERSION or MODEL@ALIAS; of MODEL the champion or newest.

    Raises:
        ConfigError: there is no such version; lists the known ones.
    """
    name, at, alias = what.partition("@")
    name, slash, version = name.partition("/")
    of_model = [entry for entry in versions if entry.model == name]
    for entry in of_model:
        if str(entry.version) == version if slash else (alias or CHAMPION) in entry.aliases:
            return entry
    if of_model and not at and not slash:
        return of_model[0]
    known = sorted(f"{entry.model}/{entry.version}" for entry in of_model or versions)
    listing = ", ".join(known) or f"none yet, {MAKES_ONE}"
    raise ConfigError(f"{what}: no such page, model or version; versions: {listing}")


def _show_model(console: Console, value: dict[str, Any]) -> None:
    print_line(console, f"{value['model']} version {value['version']}", bold=True)
    print_line(
        console,
        f"{format_version_state(value) or 'no alias'}; bundle {value['bundle'][:SHOWN_DIGITS]}",
    )
    if value["base"]:
        print_line(console, f"made of {value['base']}, licence: {value['base_licence']}")
    if value["bentos"]:
        print_line(console, f"Bento {', '.join(f'modelmill:{name}' for name in value['bentos'])}")
    for crawl in value["crawls"]:
        seeds = f" from {', '.join(crawl['from'][:3])}" if crawl["from"] else ""
        pages = f"{crawl['pages']:,} pages of {crawl['as_of']}"
        print_line(
            console, f"crawl {crawl['key'][:SHOWN_DIGITS]}: {pages}, {crawl['source']}{seeds}"
        )
    for dataset in value["datasets"]:
        print_line(console, f"dataset {dataset['name']} in DVC")
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
            node["stage"],
            *(node[name][:SHOWN_DIGITS] for name in ("key", "config", "digest")),
        )
        for node in value["chain"]
    ]
    console.print(rows_table(("stage", "key", "config", "content"), rows))
    for digest, roles in value["gone"].items():
        print_line(console, f"gone: {digest[:SHOWN_DIGITS]}, which was {', '.join(roles)}")


def _show_sources(console: Console, sources: dict[str, Any]) -> None:
    if "unknown" in sources:
        print_line(console, f"sources unknown: {sources['unknown']}")
        return
    print_line(
        console,
        f"{sources['train_tokens']:,} training tokens of {sources['train_pages']:,} pages; "
        f"{sources['heldout_pages']:,} pages held out",
    )
    hosts = [
        (
            f"{100 * source['share']:.2f} %",
            f"{source['tokens']:,}",
            f"{source['pages']:,}",
            source["host"],
        )
        for source in sources["hosts"][:MOST_LISTED]
    ]
    console.print(rows_table(("share", "tokens", "pages", "host"), hosts))
    pages = [
        (f"{100 * source['share']:.2f} %", f"{source['tokens']:,}", source["url"])
        for source in sources["largest"]
    ]
    console.print(rows_table(("share", "tokens", "largest pages"), pages))
