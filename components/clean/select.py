"""Selection: all scores against all thresholds -> the kept corpus, and a ledger that says why.

Scorers measure, this stage decides. A document stays when it passes every rule and is no copy of a
kept document. Copies are decided greedily among the documents that passed every other rule, oldest
crawl first, then by id, so that a document is dropped for one that is really kept, and successive
crawls keep what one batch would. The rules come with the config (``selection_rule.py``); this
module knows none of them but the list of blocked addresses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from components.clean.document_edits import edit_document
from components.clean.quantile_bounds import (
    QUANTILES_FILE,
    WHOLE_CORPUS,
    QuantileBound,
    bounds_of_documents,
    measure_quantile_bounds,
    quantile_records,
)
from components.clean.selection_rule import (
    BoundsRule,
    CorpusRule,
    KeptOriginal,
    MarkedSpan,
    Rule,
    RuleFinding,
    ScoredShard,
    compare_with_bounds,
)
from components.clean.verdict_ledger import ledger_table
from components.core.config.blocklist import Blocklist
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.stats.source_losses import AlarmConfig, SourceLosses
from components.core.store.artifact import DROPPED_BY_PREFIX, Corpus, Scores, canonical_json
from components.core.store.document_rows import DOCUMENT_SCHEMA
from components.core.store.shards import write_shard, zip_shards
from components.core.store.workdir import Workdir

log = get_logger(__name__)


class SelectConfig(StageConfig):
    """Base of one modality's selection config: its rules are fields, in the ledger's order.

    A rule whose scores are not given does not apply.
    """

    alarm: AlarmConfig = Field(
        default=AlarmConfig(),
        description="losses of a source from which a warning is logged",
    )
    blocked_urls: tuple[str, ...] = Field(
        default=(), description="addresses that are always dropped, with all below them"
    )
    blocked_domains: tuple[str, ...] = Field(
        default=(), description="hosts that are always dropped, with their subdomains"
    )

    @property
    def rules(self) -> list[Rule]:
        """The fields that are rules, in their order."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value for value in values if isinstance(value, Rule)]

    def key_fields(self) -> dict[str, Any]:
        """The fields, and the order of the rules, which is that of the ledger."""
        return {**super().key_fields(), "rules": [type(rule).__name__ for rule in self.rules]}


@dataclass
class SelectionTally:
    """Counts behind the stage's stats."""

    kept_documents: int = 0
    dropped_documents: int = 0
    kept_characters: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    marks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(action, kind) of the spans of kept documents."""

    def count_verdicts(self, documents: int, reasons: Mapping[int, list[str]]) -> None:
        """Add one shard's verdicts."""
        self.kept_documents += documents - len(reasons)
        self.dropped_documents += len(reasons)
        self.reasons.update(rule for failed in reasons.values() for rule in failed)

    def as_stats(self, rules: list[Rule]) -> dict[str, float]:
        """The stats of the corpus; ``rules`` says what may be cut."""
        redacted = {kind: n for (action, kind), n in self.marks.items() if action == "redact"}
        cuts = [kind for rule in rules for kind in rule.cuts]
        return {
            "kept": float(self.kept_documents),
            "dropped": float(self.dropped_documents),
            "kept_characters": float(self.kept_characters),
            **{f"{kind}s_cut": float(self.marks["cut", kind]) for kind in cuts},
            **{f"{DROPPED_BY_PREFIX}{rule}": float(n) for rule, n in sorted(self.reasons.items())},
            **{f"redacted_{kind}": float(n) for kind, n in sorted(redacted.items())},
        }


def select(
    config: SelectConfig, corpus: Corpus, scores: Mapping[str, Scores], work: Workdir
) -> Corpus:
    """The kept documents, personal data redacted, and ``ledger/`` with a row for every document.

    Args:
        config: The rules with their thresholds.
        corpus: The extracted documents.
        scores: Role -> scores of these documents.
        work: Where the result is written.

    Raises:
        ConfigError: scores of an unknown role.
        DataError: no document is left; names the rule that took most.
    """
    _check_roles(config, scores)
    folder = work.artifact_folder(corpus)
    score_folders = {
        role: work.artifact_folder(role_scores) for role, role_scores in scores.items()
    }
    quantiles = _measure_quantiles(config, folder, score_folders)
    original_of_copy = _apply_corpus_rules(config, folder, score_folders, quantiles)
    losses_by_site = SourceLosses()
    (work.folder / "ledger").mkdir(exist_ok=True)
    work.progress.start_count(None, "documents")
    tally = SelectionTally()
    for name, shard in _scored_shards(config, folder, score_folders, quantiles):
        documents = shard.documents
        findings = apply_rules(config, shard)
        reasons = list_failures(findings)
        for row, identifier in enumerate(documents["id"].to_pylist()):
            if identifier in original_of_copy:
                reasons[row] = [original_of_copy[identifier].rule]
        kept_rows = [row for row in range(len(documents)) if row not in reasons]
        tally.count_verdicts(len(documents), reasons)
        losses_by_site.count_documents(documents["url"].to_pylist(), reasons)
        marks = [(rule, rule.mark_spans(shard)) for rule in _applicable_rules(config, shard.scores)]
        write_shard(work.folder / name, _edit_and_count_kept(shard, kept_rows, marks, tally))
        ledger = ledger_table(
            config.rules, shard, findings, reasons, [spans for _, spans in marks], original_of_copy
        )
        write_shard(work.folder / "ledger" / name, ledger)
        work.progress.advance(len(documents), note=f"{tally.kept_documents} kept")
    if not tally.kept_documents:
        raise DataError(_empty_corpus_message(tally))
    alarms = losses_by_site.write_losses(work.folder, config.alarm, "select")
    for line in alarms:
        log.warning("%s", line)
    stats = {**tally.as_stats(config.rules), "alarms": float(len(alarms))}
    if quantiles:
        write_atomically(work.folder / QUANTILES_FILE, canonical_json(quantile_records(quantiles)))
    for bound in quantiles:
        if bound.group == WHOLE_CORPUS:
            stats[f"bound_{bound.bound}"] = round(bound.value, 6)
    return work.seal(Corpus, stats=stats)


def apply_rules(config: SelectConfig, shard: ScoredShard) -> list[RuleFinding]:
    """Findings of every rule on single documents."""
    blocklist = Blocklist([*config.blocked_urls, *config.blocked_domains])
    blocked = [float(blocklist.covers(url)) for url in shard.documents["url"].to_pylist()]
    findings = [compare_with_bounds("blocked", np.array(blocked, dtype=np.float64), at_most=0.0)]
    for rule in _applicable_rules(config, shard.scores):
        findings += rule.check_documents(shard)
    return findings


def list_failures(findings: list[RuleFinding]) -> dict[int, list[str]]:
    """Row -> names of the rules it fails, for documents that fail one."""
    reasons: dict[int, list[str]] = {}
    for finding in findings:
        for row in np.flatnonzero(~finding.passed).tolist():
            reasons.setdefault(row, []).append(finding.rule)
    return reasons


def _check_roles(config: SelectConfig, scores: Mapping[str, Scores]) -> None:
    roles = [role for rule in config.rules for role in rule.roles]
    unknown = sorted(set(scores) - set(roles))
    if unknown:
        raise ConfigError(f"select: no rule reads scores {unknown[0]!r}; roles: {', '.join(roles)}")


def _applicable_rules(config: SelectConfig, scores: Mapping[str, object]) -> list[Rule]:
    """Rules with scores to read, in their order."""
    return [rule for rule in config.rules if any(role in scores for role in rule.roles)]


def _rules_with_quantiles(
    config: SelectConfig, score_folders: Mapping[str, Path]
) -> list[BoundsRule]:
    rules = _applicable_rules(config, score_folders)
    return [rule for rule in rules if isinstance(rule, BoundsRule) and rule.quantiles]


def _scored_shards(
    config: SelectConfig,
    corpus: Path,
    score_folders: Mapping[str, Path],
    quantiles: Sequence[QuantileBound] = (),
) -> Iterator[tuple[str, ScoredShard]]:
    """Every shard of the corpus; without ``quantiles`` only bounds with a fixed value apply."""
    rules = _rules_with_quantiles(config, score_folders) if quantiles else []
    for name, documents, tables in zip_shards(corpus, score_folders):
        shard = ScoredShard(documents, tables)
        yield name, replace(shard, quantile_bounds=bounds_of_documents(rules, quantiles, shard))


def _measure_quantiles(
    config: SelectConfig, corpus: Path, score_folders: Mapping[str, Path]
) -> list[QuantileBound]:
    """Values of the bounds at quantiles, over the documents that pass every fixed bound."""
    rules = _rules_with_quantiles(config, score_folders)
    if not rules:
        return []
    shards = (shard for _, shard in _scored_shards(config, corpus, score_folders))
    return measure_quantile_bounds(
        rules, ((shard, _passing_rows(config, shard)) for shard in shards)
    )


def _passing_rows(config: SelectConfig, shard: ScoredShard) -> list[int]:
    failed = list_failures(apply_rules(config, shard))
    return [row for row in range(len(shard.documents)) if row not in failed]


def _apply_corpus_rules(
    config: SelectConfig,
    corpus: Path,
    score_folders: Mapping[str, Path],
    quantiles: Sequence[QuantileBound],
) -> dict[str, KeptOriginal]:
    """Documents that a rule on the whole corpus drops, each with the kept one it repeats."""
    originals: dict[str, KeptOriginal] = {}

    def passing() -> Iterator[tuple[ScoredShard, list[int]]]:
        for _, shard in _scored_shards(config, corpus, score_folders, quantiles):
            ids = shard.documents["id"].to_pylist()
            yield shard, [row for row in _passing_rows(config, shard) if ids[row] not in originals]

    for rule in _applicable_rules(config, score_folders):
        if isinstance(rule, CorpusRule):
            originals |= rule.find_originals(passing())
    return originals


def _edit_and_count_kept(
    shard: ScoredShard,
    kept_rows: list[int],
    marks: list[tuple[Rule, list[list[MarkedSpan]]]],
    tally: SelectionTally,
) -> pa.Table:
    """Kept documents, their marked spans cut or redacted; what is marked and kept is tallied."""
    documents = shard.documents.take(pa.array(kept_rows, type=pa.int64())).to_pylist()
    for row, document in zip(kept_rows, documents, strict=True):
        own_marks = [(rule, spans[row]) for rule, spans in marks]
        tally.marks.update((span.action, span.kind) for _, spans in own_marks for span in spans)
        edit_document(document, own_marks, shard, row)
    tally.kept_characters += sum(len(document["text"]) for document in documents)
    return pa.Table.from_pylist(documents, schema=DOCUMENT_SCHEMA)


def _empty_corpus_message(tally: SelectionTally) -> str:
    if not tally.reasons:
        return "select: the corpus holds no document"
    rule, count = min(tally.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return (
        f"select: no document is left of {tally.dropped_documents}; rule {rule} took most "
        f"({count}); widen its bound under select"
    )
