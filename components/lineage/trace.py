"""Where a page went, and what a model was made of: read from manifests, ledgers, registry."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit

from components.core.config.blocklist import Blocklist
from components.core.errors import ConfigError, DataError
from components.core.settings import Settings
from components.core.store.artifact import (
    DROPPED_BY,
    Checkpoint,
    Corpus,
    Instructions,
    Pages,
    Tokenizer,
    Tokens,
)
from components.core.store.lineage_graph import ArtifactGraph, Node, read_unfinished
from components.lineage.forget_orders import Order, read_orders
from components.lineage.known_addresses import known_addresses, near
from components.lineage.outside_copies import (
    bentos,
    dataset_versions,
    describe_version,
    versions_of,
)
from components.lineage.page_history import (
    PageTokens,
    Query,
    addresses_of,
    crawl_rows,
    document_rows,
    instruction_counts,
    is_readable,
    is_selected,
    ledger_rows,
    page_tokens,
    quarantine_rows,
    verdict,
)
from components.publish.registry.model_registry import BUNDLE_TAG, Entry

LARGEST = 10
"""Pages and hosts of a model that are listed one by one."""


def trace_page(settings: Settings, given: str) -> dict[str, Any]:
    """Everything about one page (an address or a document's id), crawl by crawl.

    Raises:
        ConfigError: no crawl and no corpus of this workspace ever saw it.
    """
    store, graph, query = settings.store, ArtifactGraph.read(settings.store), Query.of(given)
    raw = [node for node in graph.of_format(Corpus.format) if not is_selected(node)]
    raw = [node for node in raw if is_readable(store, node)]
    if query.id:
        query = _by_address(settings, raw, query)
    unfinished = read_unfinished(store)
    made = [*graph.of_format(Corpus.format), *unfinished]
    crawls = [_crawl(settings, made, node, query) for node in graph.of_format(Pages.format)]
    seen = [crawl for crawl in crawls if crawl["fetched"] or crawl["set_aside"]]
    orphans = [n for n in raw if not graph.of(n.parents.get("pages", ""))]  # their crawl is gone
    verdicts = [
        told
        for node in made
        if is_selected(node)
        for told in _verdicts(settings, graph, node, query)
    ]
    if not seen and not verdicts and not any(document_rows(store, n, query) for n in orphans):
        known = known_addresses(settings)
        raise ConfigError(f"{given}: no crawl of this workspace saw this page{near(given, known)}")
    return {
        "page": query.url or given,
        "orders": [asdict(order) for order in _orders(settings, query)],
        "crawls": seen,
        "verdicts": verdicts,
        "reached": [
            _reached(settings, graph, graph.nodes[key], query)
            for key in {
                told["corpus"]: told["key"]
                for told in verdicts
                if told["kept"] and told["finished"]
            }.values()
        ],
    }


def _by_address(settings: Settings, raw: Sequence[Node], query: Query) -> Query:
    """A document's id as its page's address."""
    for node in raw:
        for row in document_rows(settings.store, node, query):
            return Query(url=row["url"])
    raise ConfigError(f"{query.id}: no corpus of this workspace holds this document")


def _orders(settings: Settings, query: Query) -> list[Order]:
    """Orders to forget the page."""
    return [order for order in read_orders(settings) if Blocklist([order.target]).covers(query.url)]


def _crawl(settings: Settings, made: Sequence[Node], crawl: Node, query: Query) -> dict[str, Any]:
    """What one crawl and its extractions say, those that failed included."""
    store = settings.store
    extracted = [n for n in made if crawl.digest in n.parents.values() and not is_selected(n)]
    finished = [n for n in extracted if n.finished and is_readable(store, n)]
    return {
        "crawl": crawl.key,
        "digest": crawl.digest,
        "as_of": crawl.config.get("as_of", ""),
        "fetched": crawl_rows(store, crawl, query),
        "set_aside": [
            {**row, "finished": n.finished}
            for n in extracted
            for row in quarantine_rows(store, n, query)
        ],
        "documents": sorted(
            {row["id"] for n in finished for row in document_rows(store, n, query)}
        ),
    }


def _verdicts(
    settings: Settings, graph: ArtifactGraph, corpus: Node, query: Query
) -> list[dict[str, Any]]:
    told = [verdict(row) for row in ledger_rows(settings.store, corpus, query)]
    twins = [found["twin"]["document"] for found in told if "twin" in found]
    holders = [corpus] if corpus.finished else graph.of(corpus.parents.get("corpus", ""))[:1]
    addresses: dict[str, str] = {}
    for holder in holders if twins else ():
        addresses.update(addresses_of(settings.store, holder, twins))
    for found in told:
        if "twin" in found:
            found["twin"]["url"] = addresses.get(found["twin"]["document"], "")
    from_ = [corpus.digest] if corpus.finished else list(corpus.parents.values())
    crawls = [n.key for n in graph.chain(from_) if n.format == Pages.format]
    where = {
        "corpus": corpus.digest or corpus.key,
        "key": corpus.key,
        "crawls": crawls,
        "finished": corpus.finished,
    }
    return [{**where, **found} for found in told]


def _reached(
    settings: Settings, graph: ArtifactGraph, corpus: Node, query: Query
) -> dict[str, Any]:
    """What was made of a corpus that kept the page."""
    made = graph.reached([corpus], lambda node: node.format != Corpus.format)
    digests = {node.digest for node in made}
    packed = bentos(settings)
    tokens = [
        _of_page(settings, graph, node, query) for node in made if node.format == Tokens.format
    ]
    return {
        "corpus": corpus.digest,
        "trained_on": any(found["split"] == "train" for found in tokens),
        "datasets": [d.name for d in dataset_versions(settings) if d.corpus == corpus.digest],
        "tokenizers": [_short(node) for node in made if node.format == Tokenizer.format],
        "tokens": tokens,
        "instructions": [
            {**_short(node), **instruction_counts(settings.store, node, query)}
            for node in made
            if node.format == Instructions.format
        ],
        "models": [_short(node) for node in made if node.format == Checkpoint.format],
        "versions": [
            describe_version(settings, entry, packed) for entry in versions_of(settings, digests)
        ],
    }


def _of_page(
    settings: Settings, graph: ArtifactGraph, tokens: Node, query: Query
) -> dict[str, Any]:
    bare = query.url.rstrip("/")
    mine = [p for p in page_tokens(settings.store, graph, tokens) if p.url.rstrip("/") == bare]
    return {
        **_short(tokens),
        "split": "held-out" if any(page.heldout for page in mine) else "train",
        "tokens": sum(page.tokens for page in mine),
    }


def _short(node: Node) -> dict[str, Any]:
    return {"key": node.key, "component": node.component, "digest": node.digest}


def trace_model(settings: Settings, entry: Entry) -> dict[str, Any]:
    """The sources of a registered version by share of its training tokens, and its whole chain."""
    graph = ArtifactGraph.read(settings.store)
    bundle = entry.tags.get(BUNDLE_TAG, "")
    chain = graph.chain([bundle])
    return {
        **describe_version(settings, entry, bentos(settings)),
        "crawls": [_crawl_facts(node) for node in chain if node.format == Pages.format],
        "dropped": _losses(chain),
        "datasets": [
            {"name": d.name, "corpus": d.corpus}
            for d in dataset_versions(settings)
            if d.corpus in {node.digest for node in chain}
        ],
        "sources": [
            _sources(settings, graph, node) for node in chain if node.format == Tokens.format
        ],
        "chain": [
            {
                **_short(node),
                "format": node.format,
                "config": node.configured,
                "code": node.code,
                "parents": dict(node.parents),
            }
            for node in chain
        ],
        "gone": graph.gone(chain) or ({} if chain else {bundle: ["bundle"]}),
    }


def _crawl_facts(node: Node) -> dict[str, Any]:
    config = node.config
    source = config.get("sources") or (
        "files" if config.get("files") else "web" if config.get("seeds") else "embedded"
    )
    return {
        "key": node.key,
        "as_of": config.get("as_of", ""),
        "source": source,
        "from": config.get("files") or config.get("seeds") or [],
        "blocked": list(config.get("blocklist", [])),
        "pages": int(node.stats.get("pages", 0)),
    }


def _losses(chain: Sequence[Node]) -> dict[str, Any]:
    """What was left out on the way, and why, in counts."""
    losses: dict[str, Any] = {}
    for node in chain:
        if node.format == Pages.format:
            losses["not fetched"] = int(node.stats.get("left_out", 0))
            losses["failed"] = int(node.stats.get("failed", 0))
        elif node.format == Corpus.format and "quarantined" in node.stats:
            losses["set aside"] = int(node.stats["quarantined"])
        elif node.format == Corpus.format and "kept" in node.stats:
            losses["kept"] = int(node.stats["kept"])
            losses["dropped"] = int(node.stats.get("dropped", 0))
            losses["by rule"] = _prefixed(node, DROPPED_BY)
            losses["redacted"] = _prefixed(node, "redacted_")
    return losses


def _prefixed(node: Node, prefix: str) -> dict[str, int]:
    found = {k.removeprefix(prefix): int(v) for k, v in node.stats.items() if k.startswith(prefix)}
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))


def _sources(settings: Settings, graph: ArtifactGraph, tokens: Node) -> dict[str, Any]:
    """Hosts and largest pages by share of the training tokens."""
    try:
        pages = page_tokens(settings.store, graph, tokens)
    except DataError as error:
        return {"tokens": tokens.digest, "unknown": str(error)}
    train = [page for page in pages if not page.heldout]
    total = sum(page.tokens for page in train)
    hosts: dict[str, list[PageTokens]] = defaultdict(list)
    for page in train:
        hosts[host(page.url)].append(page)
    sizes = {name: sum(page.tokens for page in mine) for name, mine in hosts.items()}
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    largest = sorted(train, key=lambda page: (-page.tokens, page.url))[:LARGEST]
    return {
        "tokens": tokens.digest,
        "train_tokens": total,
        "train_pages": len(train),
        "heldout_pages": len(pages) - len(train),
        "hosts": [
            {
                "host": name,
                "pages": len(hosts[name]),
                "tokens": sizes[name],
                "share": sizes[name] / total,
            }
            for name in ranked
        ],
        "largest": [
            {"url": page.url, "tokens": page.tokens, "share": page.tokens / total}
            for page in largest
        ],
    }


def host(url: str) -> str:
    """A page's host; of a file its folder's name, as the run was given it."""
    parts = urlsplit(url)
    return parts.hostname or f"file:///{parts.path.lstrip('/').partition('/')[0]}"
