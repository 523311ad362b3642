"""Facts of one version for its dossier, read from the registry and the store without MLflow."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow.parquet as pq

from components.core.settings import Settings
from components.core.stats.figures import REPORT_FILE, Figure
from components.core.store.artifact import (
    DROPPED_BY_PREFIX,
    SET_ASIDE_PREFIX,
    Checkpoint,
    Corpus,
    Pages,
    Tokens,
)
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.core.store.shards import read_shard, shard_paths
from components.publish.dossier.run_stages import RunStages, read_run_stages
from components.publish.dossier.svg_charts import CurveSeries
from components.publish.registry.model_registry import (
    BUNDLE_TAG,
    CHAMPION,
    TAG,
    RegisteredVersion,
    find_by_alias,
    list_versions,
)
from components.publish.registry.version_figures import REPORTS, read_stored_reports
from components.text.chat.chat_turns import MESSAGES_FILE
from components.text.pii.find_pii import ALL_PII_KINDS
from components.text.pii.redact import Redactor

CURVE_FILE, BUNDLE_FILE, GATES_FILE, LEDGER = (
    "curve.parquet",
    "bundle.json",
    "gates.json",
    "ledger/",
)
EXCERPT_CHARACTERS = 320
KEPT_EXAMPLES, DROPPED_EXAMPLES, HOSTS = 3, 8, 12
PLOTTED = ("loss", "reward", "kl", "entropy")
"""Columns of a curve that are worth a picture, each with a scale of its own."""


@dataclass(frozen=True)
class ExamplePage:
    """A page shown as an example, personal data replaced."""

    url: str
    title: str
    excerpt: str
    reasons: tuple[str, ...] = ()
    """``rule: score, bound`` of every rule that failed."""


@dataclass(frozen=True)
class TrainingCurve:
    """One column that a training recorded by step."""

    stage: str
    column: str
    series: CurveSeries


@dataclass(frozen=True)
class DossierFacts:
    """Everything that a dossier tells of one version."""

    entry: RegisteredVersion
    champion: RegisteredVersion | None
    chain: list[ArtifactNode]
    bundle: dict[str, Any]
    gates: list[dict[str, Any]]
    figures: dict[str, Figure]
    champion_figures: dict[str, Figure]
    examples: list[dict[str, Any]]
    """Questions with the answers of the model and of the fine-tuned one."""
    plain_answers: list[dict[str, Any]]
    """Plain questions, those of held-out pages first, chosen evenly and not by quality."""
    funnel: list[tuple[str, float]]
    reasons: list[tuple[str, int]]
    redacted: list[tuple[str, int]]
    hosts: list[tuple[str, int]]
    kept_pages: list[ExamplePage]
    dropped_pages: list[ExamplePage]
    curves: list[TrainingCurve]
    run_stages: RunStages

    @property
    def notes(self) -> list[tuple[str, str]]:
        """(stage, its note) of each stage that had one: how ``keep_best`` chose."""
        return [(self.run_stages.of(node), node.note) for node in self.chain if node.note]

    def node(self, format_: str) -> ArtifactNode | None:
        """The last made of a format in the chain."""
        return next((node for node in reversed(self.chain) if node.format == format_), None)


def gather_facts(settings: Settings, entry: RegisteredVersion) -> DossierFacts:
    """Read the facts of a version; what is gone (collected, purged) is left out of the dossier.

    Raises:
        DataError: a shard or report that is there cannot be read.
    """
    graph = ArtifactGraph.read(settings.store)
    digests = [
        v for k, v in sorted(entry.tags.items()) if k.startswith(TAG) and graph.with_digest(v)
    ]
    chain = graph.provenance_chain(digests)
    files = entry.files_folder(settings)
    champion = find_by_alias(list_versions(settings, entry.model), CHAMPION)
    rival = champion if champion is not None and champion != entry else None
    corpus = _selected(chain)
    kept_pages, dropped_pages = _examples(settings.store, graph, corpus)
    made = read_run_stages(settings.runs, entry.uri)
    return DossierFacts(
        entry=entry,
        champion=rival,
        chain=chain,
        bundle=_json(files / BUNDLE_FILE, {}),
        gates=_json(files / GATES_FILE, []),
        figures=read_stored_reports(settings, entry),
        champion_figures=read_stored_reports(settings, rival) if rival else {},
        examples=_answers(files, "compare"),
        plain_answers=sorted(
            _answers(files, "facts"), key=lambda answer: answer["group"] != "heldout"
        ),
        funnel=_funnel(chain, corpus),
        reasons=_set_aside(chain, corpus) + _counted(corpus, DROPPED_BY_PREFIX),
        redacted=_counted(corpus, "redacted_"),
        hosts=_hosts(settings.store, corpus),
        kept_pages=kept_pages,
        dropped_pages=dropped_pages,
        curves=_curves(settings.store, chain, made),
        run_stages=made,
    )


def bundle_digest(entry: RegisteredVersion) -> str:
    """Digest of the bundle that a version holds."""
    return entry.tags.get(BUNDLE_TAG, "")


def _json(path: Path, otherwise: Any) -> Any:
    return json.loads(path.read_bytes()) if path.is_file() else otherwise


def _answers(files: Path, name: str) -> list[dict[str, Any]]:
    """The examples of one of a version's reports; none where it has no such report."""
    report = _json(files / REPORTS / name / REPORT_FILE, {})
    return list(report.get("examples", []))


def _selected(chain: Sequence[ArtifactNode]) -> ArtifactNode | None:
    """The corpus of pages that the model was trained on: one with a ledger."""
    corpora = (
        node
        for node in reversed(chain)
        if node.format == Corpus.format and MESSAGES_FILE not in node.files
    )
    return next((c for c in corpora if any(name.startswith(LEDGER) for name in c.files)), None)


def _funnel(chain: Sequence[ArtifactNode], corpus: ArtifactNode | None) -> list[tuple[str, float]]:
    """Pages at every narrowing, from what was fetched to what was trained on."""
    rows: list[tuple[str, float]] = []
    crawls = [node for node in chain if node.format == Pages.format]
    if crawls:
        rows.append(("pages fetched", sum(node.stats.get("pages", 0.0) for node in crawls)))
    if corpus is not None:
        kept, dropped = corpus.stats.get("kept", 0.0), corpus.stats.get("dropped", 0.0)
        rows += [("documents extracted", kept + dropped), ("documents kept", kept)]
    for node in chain:
        if node.format == Corpus.format and MESSAGES_FILE in node.files:
            rows += [
                ("rows of conversations", node.stats.get("rows", 0.0)),
                ("conversations kept", node.stats.get("conversations", 0.0)),
                ("conversations held out", node.stats.get("heldout", 0.0)),
            ]
        if node.format == Tokens.format:
            rows += [
                ("pages trained on", node.stats.get("train_pages", 0.0)),
                ("pages held out", node.stats.get("heldout_pages", 0.0)),
            ]
    return rows


def _set_aside(chain: Sequence[ArtifactNode], corpus: ArtifactNode | None) -> list[tuple[str, int]]:
    """Fetched pages that gave no document: what ``extract`` counted, by reason."""
    parents = set(corpus.parents.values()) if corpus is not None else set()
    raw = next((node for node in chain if node.digest in parents), None)
    counts = _counted(
        raw if raw is not None and raw.format == Corpus.format else None, SET_ASIDE_PREFIX
    )
    return [(f"set aside: {reason.replace('_', ' ')}", count) for reason, count in counts if count]


def _counted(corpus: ArtifactNode | None, prefix: str) -> list[tuple[str, int]]:
    stats = corpus.stats if corpus is not None else {}
    counts = [(k.removeprefix(prefix), int(v)) for k, v in stats.items() if k.startswith(prefix)]
    return sorted(counts, key=lambda pair: -pair[1])


def _hosts(store: Path, corpus: ArtifactNode | None) -> list[tuple[str, int]]:
    """Sources of the kept pages by characters of text, the largest first."""
    if corpus is None:
        return []
    sizes: Counter[str] = Counter()
    for path in shard_paths(store / corpus.name):
        for row in read_shard(path, ["url", "text"]).to_pylist():
            sizes[_place(row["url"])] += len(row["text"])
    return sizes.most_common(HOSTS)


def _place(url: str) -> str:
    """A page's host and, below it, the first part of its path: a section of a site."""
    parts = urlsplit(url)
    first = parts.path.strip("/").partition("/")[0]
    return (
        f"{parts.hostname or parts.scheme}/{first}"
        if "/" in parts.path.strip("/")
        else (parts.hostname or parts.scheme)
    )


def _examples(
    store: Path, graph: ArtifactGraph, corpus: ArtifactNode | None
) -> tuple[list[ExamplePage], list[ExamplePage]]:
    """Pages kept, and pages dropped for as many different reasons as there are."""
    if corpus is None:
        return [], []
    names = sorted(name for name in corpus.files if name.startswith(LEDGER))
    rows = [row for name in names for row in read_shard(store / corpus.name / name).to_pylist()]
    dropped, seen = [], Counter[tuple[str, ...]]()
    for row in sorted((row for row in rows if not row["kept"]), key=lambda row: row["id"]):
        reasons = tuple(row["reasons"])
        seen[reasons] += 1
        dropped.append((seen[reasons], row))
    dropped.sort(key=lambda pair: pair[0])
    chosen = [row for _, row in dropped[:DROPPED_EXAMPLES]]
    kept = [row for row in sorted(rows, key=lambda row: row["id"]) if row["kept"]][:KEPT_EXAMPLES]
    raw = next(iter(graph.with_digest(corpus.parents.get("corpus", ""))), None)
    wanted = {row["id"] for row in (*chosen, *kept)}
    texts = _texts(store, raw or corpus, wanted)
    return (
        [_page(row, texts) for row in kept],
        [_page(row, texts) for row in chosen],
    )


def _texts(store: Path, corpus: ArtifactNode, wanted: set[str]) -> dict[str, tuple[str, str]]:
    """Document id -> (title, text)."""
    texts: dict[str, tuple[str, str]] = {}
    for path in shard_paths(store / corpus.name):
        for row in read_shard(path, ["id", "title", "text"]).to_pylist():
            if row["id"] in wanted:
                texts[row["id"]] = (row["title"], row["text"])
    return texts


def _page(row: dict[str, Any], texts: dict[str, tuple[str, str]]) -> ExamplePage:
    title, text = texts.get(row["id"], ("", ""))
    lines = (" ".join(line.split()) for line in text[: 4 * EXCERPT_CHARACTERS].splitlines())
    clean = Redactor(frozenset(ALL_PII_KINDS)).redact("\n".join(line for line in lines if line))
    failed = [rule for rule in row["rules"] if not rule["passed"]]
    reasons = [f"{rule['rule']}: {_bound(rule)}" for rule in failed]
    if row["duplicate_of"]:
        how = "of it stands in" if "passages" in row["reasons"] else "like"
        reasons.append(f"{row['reasons'][0]}: {row['similarity']:.3f} {how} a page that is kept")
    if row.get("item"):
        reasons.append(f"contamination: holds {row['item']} ({row.get('item_form', 'found')})")
    excerpt = clean[:EXCERPT_CHARACTERS] + ("…" if len(clean) > EXCERPT_CHARACTERS else "")
    return ExamplePage(row["url"], title, excerpt, tuple(reasons))


def _bound(rule: dict[str, Any]) -> str:
    least, most = rule["at_least"], rule["at_most"]
    score = f"{rule['score']:.4g}"
    if least is not None and not math.isnan(least):
        score += f", at least {least:.4g}"
    if most is not None and not math.isnan(most):
        score += f", at most {most:.4g}"
    return score


def _curves(store: Path, chain: Sequence[ArtifactNode], made: RunStages) -> list[TrainingCurve]:
    """Every column worth a picture of every training in the chain."""
    curves = []
    for node in chain:
        if node.format != Checkpoint.format or CURVE_FILE not in node.files:
            continue
        table = pq.read_table(store / node.name / CURVE_FILE).to_pydict()
        for column in PLOTTED:
            if column in table and len(table[column]) > 1:
                series = CurveSeries(column, table["step"], table[column])
                curves.append(TrainingCurve(made.of(node), column, series))
    return curves
