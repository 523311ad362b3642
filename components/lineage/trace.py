"""Trace of a page to the models it reached, and of a model to its sources."""

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
    DROPPED_BY_PREFIX,
    Checkpoint,
    Corpus,
    Instructions,
    Pages,
    Preferences,
    Tokenizer,
    Tokens,
)
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode, read_unfinished
from components.lineage.conversation_rows import (
    count_judged_answers,
    holds_conversations,
    holds_preferences,
    holds_rows,
)
from components.lineage.forget_orders import ForgetOrder, read_orders
from components.lineage.known_addresses import known_addresses, suggest_addresses
from components.lineage.outside_copies import (
    describe_version,
    find_versions,
)
from components.lineage.page_history import (
    PageQuery,
    PageTokens,
    count_page_tokens,
    crawl_rows,
    document_addresses,
    document_rows,
    instruction_counts,
    is_readable,
    is_selected,
    ledger_rows,
    quarantine_rows,
    summarise_verdict,
)
from components.publish.bento_folders import list_packed
from components.publish.dataset.dataset_pins import read_pins
from components.publish.registry.model_registry import BUNDLE_TAG, RegisteredVersion

MOST_LISTED = 10
"""Pages of a model that are listed one by one, the largest."""
_ROW_STATS = ("rows", "set_aside", "dropped", "heldout")


def trace_page(settings: Settings, page: str) -> dict[str, Any]:
    """Trace one page (an address or a document's id), crawl by crawl.

    Raises:
        ConfigError: no crawl and no corpus of this workspace ever saw it.
    """
    store, graph, query = settings.store, ArtifactGraph.read(settings.store), PageQuery.parse(page)
    raw = [node for node in graph.with_format(Corpus.format) if not is_selected(node)]
    raw = [node for node in raw if is_readable(store, node)]
    if query.id:
        query = _resolve_document(settings, raw, query)
    unfinished = read_unfinished(store)
    made = [*graph.with_format(Corpus.format), *unfinished]
    crawls = [_trace_crawl(settings, made, node, query) for node in graph.with_format(Pages.format)]
    crawls_with_page = [crawl for crawl in crawls if crawl["fetched"] or crawl["set_aside"]]
    orphans = [
        n for n in raw if not graph.with_digest(n.parents.get("pages", ""))
    ]  # their crawl is gone
    verdicts = [
        verdict
        for node in made
        if is_selected(node)
        for verdict in _trace_verdicts(settings, graph, node, query)
    ]
    if (
        not crawls_with_page
        and not verdicts
        and not any(document_rows(store, n, query) for n in orphans)
    ):
        known = known_addresses(settings)
        raise ConfigError(
            f"{page}: no crawl of this workspace saw this page{suggest_addresses(page, known)}"
        )
    return {
        "page": query.url or page,
        "orders": [asdict(order) for order in _covering_orders(settings, query)],
        "crawls": crawls_with_page,
        "verdicts": verdicts,
        "reached": [
            _trace_products(settings, graph, graph.nodes[key], query)
            for key in {
                verdict["corpus"]: verdict["key"]
                for verdict in verdicts
                if verdict["kept"] and verdict["finished"]
            }.values()
        ],
    }


def _resolve_document(
    settings: Settings, raw: Sequence[ArtifactNode], query: PageQuery
) -> PageQuery:
    """A document's id as its page's address.

    A row of a user's file has a line in the ledger alone where it was dropped.
    """
    for node in raw:
        for row in document_rows(settings.store, node, query):
            return PageQuery(url=row["url"])
    for node in filter(holds_rows, ArtifactGraph.read(settings.store)):
        for row in ledger_rows(settings.store, node, query):
            return PageQuery(url=row["url"])
    raise ConfigError(f"{query.id}: no corpus of this workspace holds this document")


def _covering_orders(settings: Settings, query: PageQuery) -> list[ForgetOrder]:
    """Orders to forget the page."""
    return [order for order in read_orders(settings) if Blocklist([order.target]).covers(query.url)]


def _trace_crawl(
    settings: Settings, made: Sequence[ArtifactNode], crawl: ArtifactNode, query: PageQuery
) -> dict[str, Any]:
    """History of the page in one crawl and its extractions, failed ones included."""
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


def _trace_verdicts(
    settings: Settings, graph: ArtifactGraph, corpus: ArtifactNode, query: PageQuery
) -> list[dict[str, Any]]:
    summaries = [summarise_verdict(row) for row in ledger_rows(settings.store, corpus, query)]
    originals = [
        verdict["duplicate_of"]["document"] for verdict in summaries if "duplicate_of" in verdict
    ]
    holders = (
        [corpus] if corpus.finished else graph.with_digest(corpus.parents.get("corpus", ""))[:1]
    )
    addresses: dict[str, str] = {}
    for holder in holders if originals else ():
        addresses.update(document_addresses(settings.store, holder, originals))
    for verdict in summaries:
        if "duplicate_of" in verdict:
            verdict["duplicate_of"]["url"] = addresses.get(verdict["duplicate_of"]["document"], "")
    from_ = [corpus.digest] if corpus.finished else list(corpus.parents.values())
    crawls = [n.key for n in graph.provenance_chain(from_) if n.format == Pages.format]
    where = {
        "corpus": corpus.digest or corpus.key,
        "key": corpus.key,
        "crawls": crawls,
        "finished": corpus.finished,
    }
    return [{**where, **verdict} for verdict in summaries]


def _trace_products(
    settings: Settings, graph: ArtifactGraph, corpus: ArtifactNode, query: PageQuery
) -> dict[str, Any]:
    """Everything made from a corpus that kept the page."""
    made = graph.downstream_nodes([corpus], lambda node: node.format != Corpus.format)
    digests = {node.digest for node in made}
    packed = list_packed(settings)
    tokens = [
        _page_share(settings, graph, node, query) for node in made if node.format == Tokens.format
    ]
    instructions = [
        {**_node_facts(node), **instruction_counts(settings.store, node, query)}
        for node in made
        if node.format == Instructions.format
    ]
    preferences = [
        {**_node_facts(node), **count_judged_answers(settings.store, node, query)}
        for node in made
        if node.format == Preferences.format
    ]
    asked = any(row["train"] or row["align"] for row in instructions)
    judged = any(row["train"] for row in preferences)
    return {
        "corpus": corpus.digest,
        "trained_on": asked or judged or any(row["split"] == "train" for row in tokens),
        "datasets": [d.version for d in read_pins(settings) if d.corpus == corpus.digest],
        "tokenizers": [_node_facts(node) for node in made if node.format == Tokenizer.format],
        "tokens": tokens,
        "instructions": instructions,
        "preferences": preferences,
        "models": [_node_facts(node) for node in made if node.format == Checkpoint.format],
        "versions": [
            describe_version(settings, entry, packed) for entry in find_versions(settings, digests)
        ],
    }


def _page_share(
    settings: Settings, graph: ArtifactGraph, tokens: ArtifactNode, query: PageQuery
) -> dict[str, Any]:
    bare = query.url.rstrip("/")
    mine = [
        p for p in count_page_tokens(settings.store, graph, tokens) if p.url.rstrip("/") == bare
    ]
    return {
        **_node_facts(tokens),
        "split": "held-out" if any(page.heldout for page in mine) else "train",
        "tokens": sum(page.tokens for page in mine),
    }


def _node_facts(node: ArtifactNode) -> dict[str, Any]:
    return {
        "stage": node.stage,
        "key": node.key,
        "component": node.component,
        "digest": node.digest,
    }


def trace_model(settings: Settings, entry: RegisteredVersion) -> dict[str, Any]:
    """Trace a registered version: sources by share of its training tokens, and its whole chain."""
    graph = ArtifactGraph.read(settings.store)
    bundle = entry.tags.get(BUNDLE_TAG, "")
    chain = graph.provenance_chain([bundle])
    return {
        **describe_version(settings, entry, list_packed(settings)),
        "crawls": [_crawl_facts(node) for node in chain if node.format == Pages.format],
        "dropped": _count_losses(chain),
        "datasets": [
            {"name": d.version, "corpus": d.corpus}
            for d in read_pins(settings)
            if d.corpus in {node.digest for node in chain}
        ],
        "sources": [
            _token_sources(settings, graph, node) for node in chain if node.format == Tokens.format
        ],
        "chain": [
            {
                **_node_facts(node),
                "format": node.format,
                "config": node.config_digest,
                "code": node.code_digest,
                "parents": dict(node.parents),
            }
            for node in chain
        ],
        "gone": graph.missing_parents(chain) or ({} if chain else {bundle: ["bundle"]}),
    }


def _crawl_facts(node: ArtifactNode) -> dict[str, Any]:
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


def _count_losses(chain: Sequence[ArtifactNode]) -> dict[str, Any]:
    """Counts of pages and documents left out on the way, by reason."""
    losses: dict[str, Any] = {}
    for node in chain:
        if node.format == Pages.format:
            losses["not fetched"] = int(node.stats.get("left_out", 0))
            losses["failed"] = int(node.stats.get("failed", 0))
        elif holds_conversations(node):
            losses["conversations"] = _count_rows(node, "conversations")
        elif holds_preferences(node):
            losses["preferences"] = _count_rows(node, "preferences")
        elif node.format == Corpus.format and "quarantined" in node.stats:
            losses["set aside"] = int(node.stats["quarantined"])
        elif node.format == Corpus.format and "kept" in node.stats:
            losses["kept"] = int(node.stats["kept"])
            losses["dropped"] = int(node.stats.get("dropped", 0))
            losses["by rule"] = _stats_with_prefix(node, DROPPED_BY_PREFIX)
            losses["redacted"] = _stats_with_prefix(node, "redacted_")
    return losses


def _count_rows(node: ArtifactNode, things: str) -> dict[str, int]:
    """Counts of rows of users' files: read, set aside, dropped by rule, kept."""
    stats = {name: int(node.stats.get(name, 0)) for name in (*_ROW_STATS, things)}
    return {**stats, **_stats_with_prefix(node, DROPPED_BY_PREFIX)}


def _stats_with_prefix(node: ArtifactNode, prefix: str) -> dict[str, int]:
    counts = {k.removeprefix(prefix): int(v) for k, v in node.stats.items() if k.startswith(prefix)}
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))


def _token_sources(
    settings: Settings, graph: ArtifactGraph, tokens: ArtifactNode
) -> dict[str, Any]:
    """Hosts and largest pages by share of the training tokens."""
    try:
        pages = count_page_tokens(settings.store, graph, tokens)
    except DataError as error:
        return {"tokens": tokens.digest, "unknown": str(error)}
    train = [page for page in pages if not page.heldout]
    total = sum(page.tokens for page in train)
    hosts: dict[str, list[PageTokens]] = defaultdict(list)
    for page in train:
        hosts[page_host(page.url)].append(page)
    sizes = {name: sum(page.tokens for page in mine) for name, mine in hosts.items()}
    ranked = sorted(sizes, key=lambda name: (-sizes[name], name))
    largest = sorted(train, key=lambda page: (-page.tokens, page.url))[:MOST_LISTED]
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


def page_host(url: str) -> str:
    """Host of a page; for a file the name of its folder, as given to the run."""
    parts = urlsplit(url)
    return parts.hostname or f"file:///{parts.path.lstrip('/').partition('/')[0]}"
