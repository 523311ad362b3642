"""Resolution of addresses as people type them to those that the workspace has seen."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import quote

from components.collect.web.urls import normalise_url
from components.core.config.blocklist import Blocklist
from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Pages
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.lineage.page_history import held_page_addresses, read_columns

FILE_SCHEME = "file:///"
_LEDGER = "ledger.parquet"
_MOST_COMPARED = 5000
"""Limit of the addresses whose spelling is compared with an unknown one."""


def known_addresses(settings: Settings) -> list[str]:
    """Distinct addresses that a crawl met or left unasked, or that a corpus holds, sorted."""
    addresses: set[str] = set()
    for node in ArtifactGraph.read(settings.store):
        try:
            addresses.update(_addresses(settings.store, node))
        except DataError:
            continue  # unreadable artifacts are reported by `doctor --deep`
    return sorted(addresses)


def _addresses(store: Path, node: ArtifactNode) -> list[str]:
    if node.format == Pages.format and _LEDGER in node.files:
        return read_columns(store / node.name / _LEDGER, ["url"])["url"].to_pylist()  # type: ignore[no-any-return]
    return held_page_addresses(store, node) if node.format in (Pages.format, Corpus.format) else []


def match_spellings(typed: str, known: Collection[str]) -> list[str]:
    """Known addresses that the text typed may mean: ``host/path``, or a file as it was named."""
    names = set(known)
    files = _file_spellings(typed.removeprefix("./"))
    matches = [address for address in files if address in names][:1]
    for scheme in ("https", "http"):
        url = normalise_url(f"{scheme}://{typed}")
        if url is not None:
            bare = url.rstrip("/")
            matches += [form for form in (url, bare, f"{bare}/") if form in names][:1]
    return matches


def _file_spellings(name: str) -> list[str]:
    """Addresses of a file by its name as typed: a ``#`` may begin a place in it, or be its own."""
    head, mark, place = name.rpartition("#")
    forms = [name, quote(os.fsencode(name))]
    forms += [f"{quote(os.fsencode(head))}#{place}"] if mark else []
    return [f"{FILE_SCHEME}{form}" for form in dict.fromkeys(forms)]


def _match_parents(typed: str, known: Collection[str]) -> list[str]:
    """Addresses that the text typed may mean and that have known pages below."""
    name = typed.removeprefix("./").rstrip("/")
    urls = [normalise_url(f"{scheme}://{name}") for scheme in ("https", "http")]
    candidates = [*_file_spellings(name), *(url for url in urls if url is not None)]
    return [url for url in candidates if any(map(Blocklist([url]).covers, known))]


def file_address(path_typed: str, known: Collection[str]) -> str | None:
    """Known address of the file at a path: the name of its folder and what follows."""
    names = set(known)
    for path in dict.fromkeys(
        [Path(path_typed).expanduser().absolute(), Path(path_typed).resolve()]
    ):
        parts = path.parts[1:]
        for start in range(len(parts) - 1):
            for address in _file_spellings("/".join(parts[start:])):
                if address in names:
                    return address
    return None


def resolve_address(typed: str, known: Collection[str], *, or_above: bool = False) -> str:
    """Resolve the text typed to one known address.

    Args:
        typed: address as the user typed it.
        known: addresses of the workspace.
        or_above: also accept an address above known pages.

    Raises:
        ConfigError: there is none, or more than one; names those that are near.
    """
    matches = match_spellings(typed, known) or (_match_parents(typed, known) if or_above else [])
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise ConfigError(f"{typed}: may be {' or '.join(matches)}: say which")
    raise ConfigError(
        f"{typed}: no crawl of this workspace saw this page{suggest_addresses(typed, known)}"
    )


def suggest_addresses(typed: str, known: Collection[str]) -> str:
    """Suffix ``; near: …`` with up to three known addresses of similar spelling, else empty."""
    wanted = _strip_scheme(typed)
    bares = {_strip_scheme(address): address for address in known}
    last = wanted.rpartition("/")[2]
    same = [bare for bare in bares if last and bare.rpartition("/")[2] == last]
    like = list(_same_host_first(wanted, list(bares)))
    close = difflib.get_close_matches(wanted, like, n=3, cutoff=0.6)
    chosen = list(dict.fromkeys([*close, *same]))[:3]
    return f"; near: {', '.join(bares[bare] for bare in chosen)}" if chosen else ""


def _same_host_first(wanted: str, bares: list[str]) -> Iterator[str]:
    """Addresses of the same host or folder if any, else all, up to the limit of comparisons."""
    head = wanted.partition("/")[0]
    beside = [bare for bare in bares if bare.partition("/")[0] == head]
    yield from (beside or bares)[:_MOST_COMPARED]


def _strip_scheme(address: str) -> str:
    return address.partition("://")[2].strip("/") if "://" in address else address.strip("./")
