"""Addresses as people type them, found among those that this workspace has seen."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from pathlib import Path

from components.collect.web.urls import normalise
from components.core.config.blocklist import Blocklist
from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Pages
from components.core.store.lineage_graph import ArtifactGraph, Node
from components.lineage.page_history import held_addresses, read_columns

FILE = "file:///"
_LEDGER = "ledger.parquet"
_MOST = 5000
"""Addresses that are compared letter by letter when one is unknown."""


def known_addresses(settings: Settings) -> list[str]:
    """Every address that a crawl asked for or a corpus holds, each once, sorted."""
    found: set[str] = set()
    for node in ArtifactGraph.read(settings.store):
        try:
            found.update(_addresses(settings.store, node))
        except DataError:
            continue  # what cannot be read names nothing; `doctor --deep` tells of it
    return sorted(found)


def _addresses(store: Path, node: Node) -> list[str]:
    if node.format == Pages.format and _LEDGER in node.files:
        return read_columns(store / node.name / _LEDGER, ["url"])["url"].to_pylist()  # type: ignore[no-any-return]
    return held_addresses(store, node) if node.format in (Pages.format, Corpus.format) else []


def spelled(given: str, known: Collection[str]) -> list[str]:
    """Known addresses that ``given`` may stand for: ``host/path``, or a file as it was named."""
    names = set(known)
    name = given.removeprefix("./")
    found = [f"{FILE}{name}"] if f"{FILE}{name}" in names else []
    for scheme in ("https", "http"):
        url = normalise(f"{scheme}://{given}")
        if url is not None:
            bare = url.rstrip("/")
            found += [one for one in (url, bare, f"{bare}/") if one in names][:1]
    return found


def _above(given: str, known: Collection[str]) -> list[str]:
    """Addresses that ``given`` may stand for and that known pages lie below."""
    name = given.removeprefix("./").rstrip("/")
    read = [normalise(f"{scheme}://{name}") for scheme in ("https", "http")]
    meant = [f"{FILE}{name}", *(url for url in read if url is not None)]
    return [one for one in meant if any(map(Blocklist([one]).covers, known))]


def file_at(given: str, known: Collection[str]) -> str | None:
    """The address of the file at a path; its folder's name and what follows make it up."""
    names = set(known)
    for path in dict.fromkeys([Path(given).expanduser().absolute(), Path(given).resolve()]):
        parts = path.parts[1:]
        for start in range(len(parts) - 1):
            address = f"{FILE}{'/'.join(parts[start:])}"
            if address in names:
                return address
    return None


def one_of(given: str, known: Collection[str], *, below: bool = False) -> str:
    """The one known address that ``given`` stands for; with ``below`` one above known pages too.

    Raises:
        ConfigError: there is none, or more than one; names those that are near.
    """
    found = spelled(given, known) or (_above(given, known) if below else [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{given}: may be {' or '.join(found)}: say which")
    raise ConfigError(f"{given}: no crawl of this workspace saw this page{near(given, known)}")


def near(given: str, known: Collection[str]) -> str:
    """``; near: …`` with up to three known addresses of like spelling; else empty."""
    wanted = _bare(given)
    bares = {_bare(address): address for address in known}
    last = wanted.rpartition("/")[2]
    same = [bare for bare in bares if last and bare.rpartition("/")[2] == last]
    like = list(_likely(wanted, list(bares)))
    close = difflib.get_close_matches(wanted, like, n=3, cutoff=0.6)
    chosen = list(dict.fromkeys([*close, *same]))[:3]
    return f"; near: {', '.join(bares[bare] for bare in chosen)}" if chosen else ""


def _likely(wanted: str, bares: list[str]) -> Iterator[str]:
    """Those of the same host or folder first, as many as can be compared."""
    head = wanted.partition("/")[0]
    beside = [bare for bare in bares if bare.partition("/")[0] == head]
    yield from (beside or bares)[:_MOST]


def _bare(address: str) -> str:
    return address.partition("://")[2].strip("/") if "://" in address else address.strip("./")
