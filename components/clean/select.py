"""Reads all scores with all thresholds; writes the kept corpus and the ledger.

Scorers find, this stage decides. A document stays when it passes every rule and is no twin of one
that stays. Twins are decided greedily among the documents that passed every other rule, in the
order (ordinal, id), so that a document is dropped for a twin that is really kept, and several
increments keep what one batch would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pydantic import Field

from components.clean.duplicates.dedup_decision import find_twins
from components.clean.pii.score import named_beside
from components.clean.rules import (
    BoilerplateRules,
    ContaminationRules,
    DuplicateRules,
    Finding,
    JudgedRules,
    LanguageRules,
    LicenceRules,
    PiiRules,
    QualityRules,
    SiteLineRules,
    ToxicityRules,
    failing,
    judge_blocked,
    judge_columns,
    judge_judged,
    judge_language,
    judge_licence,
    judge_pii,
    judge_quality,
    redacted_kinds,
    word_counts,
)
from components.clean.verdict_ledger import ledger_table, marked_spans
from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.core.log import get_logger
from components.core.stats.source_losses import AlarmConfig, Sources
from components.core.store.artifact import DROPPED_BY, Corpus, Scores
from components.core.store.document_rows import DOCUMENT
from components.core.store.shards import write_shard, zip_shards
from components.core.store.workdir import Workdir
from components.text.pii.redact import Redactor
from components.text.spans import Span, cut

ROLES = (
    "language",
    "quality",
    "judged_quality",
    "toxicity",
    "pii",
    "duplicates",
    "passages",
    "boilerplate",
    "site_lines",
    "contamination",
    "licence",
)
log = get_logger(__name__)


class SelectConfig(StageConfig):
    """Every threshold of the corpus. A rule whose scores are not given does not apply."""

    language: LanguageRules = Field(default=LanguageRules(), description="languages that stay")
    quality: QualityRules = Field(default=QualityRules(), description="bounds on statistics")
    judged_quality: JudgedRules = Field(
        default=JudgedRules(), description="what examples of good documents taught"
    )
    toxicity: ToxicityRules = Field(
        default=ToxicityRules(), description="what examples of toxic documents taught"
    )
    pii: PiiRules = Field(default=PiiRules(), description="personal data and secrets")
    duplicates: DuplicateRules = Field(default=DuplicateRules(), description="twins")
    boilerplate: BoilerplateRules = Field(default=BoilerplateRules(), description="menus, footers")
    site_lines: SiteLineRules = Field(
        default=SiteLineRules(), description="lines of a site's own frame, which are cut"
    )
    contamination: ContaminationRules = Field(
        default=ContaminationRules(), description="evaluation items that a page may hold"
    )
    licence: LicenceRules = Field(default=LicenceRules(), description="licences that stay")
    alarm: AlarmConfig = Field(
        default=AlarmConfig(), description="when a source's losses are told aloud"
    )
    blocked_urls: tuple[str, ...] = Field(
        default=(), description="addresses that never stay, with all below them"
    )
    blocked_domains: tuple[str, ...] = Field(
        default=(), description="hosts that never stay, with their subdomains"
    )


@dataclass
class Tally:
    """What the stats say."""

    kept: int = 0
    dropped: int = 0
    characters: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    redacted: Counter[str] = field(default_factory=Counter)
    lines_cut: int = 0

    def count(self, documents: int, reasons: Mapping[int, list[str]]) -> None:
        """Add one shard's verdicts."""
        self.kept += documents - len(reasons)
        self.dropped += len(reasons)
        self.reasons.update(reason for found in reasons.values() for reason in found)

    def stats(self) -> dict[str, float]:
        return {
            "kept": float(self.kept),
            "dropped": float(self.dropped),
            "kept_characters": float(self.characters),
            "site_lines_cut": float(self.lines_cut),
            **{f"{DROPPED_BY}{rule}": float(n) for rule, n in sorted(self.reasons.items())},
            **{f"redacted_{kind}": float(n) for kind, n in sorted(self.redacted.items())},
        }


def select(
    config: SelectConfig, corpus: Corpus, scores: Mapping[str, Scores], work: Workdir
) -> Corpus:
    """The kept documents, personal data redacted, and ``ledger/`` with a row for every document.

    Raises:
        ConfigError: scores of an unknown role.
        DataError: no document is left; names the rule that took most.
    """
    unknown = sorted(set(scores) - set(ROLES))
    if unknown:
        raise ConfigError(f"select: no rule reads scores {unknown[0]!r}; roles: {', '.join(ROLES)}")
    folder = work.path(corpus)
    beside = {role: work.path(scores[role]) for role in ROLES if role in scores}
    twins = find_twins(
        config.duplicates, folder, beside, lambda table, scores: judge(config, table, scores)
    )
    sources = Sources()
    (work.folder / "ledger").mkdir(exist_ok=True)
    work.progress.start(None, "documents")
    tally = Tally()
    for name, table, of_role in zip_shards(folder, beside):
        findings = judge(config, table, of_role)
        reasons = failing(findings)
        for at, identifier in enumerate(table["id"].to_pylist()):
            if identifier in twins:
                reasons[at] = [twins[identifier].rule]
        kept = [at for at in range(len(table)) if at not in reasons]
        tally.count(len(table), reasons)
        sources.count(table["url"].to_pylist(), reasons)
        write_shard(work.folder / name, _kept_documents(config, table, of_role, kept, tally))
        spans = marked_spans(config.pii, config.site_lines, table, of_role)
        ledger = ledger_table(config.duplicates, table, of_role, findings, reasons, twins, spans)
        write_shard(work.folder / "ledger" / name, ledger)
        work.progress.advance(len(table), note=f"{tally.kept} kept")
    if not tally.kept:
        raise DataError(_nothing_left(tally))
    alarms = sources.write(work.folder, config.alarm, "select")
    for line in alarms:
        log.warning("%s", line)
    return work.seal(Corpus, stats={**tally.stats(), "alarms": float(len(alarms))})


def judge(config: SelectConfig, table: pa.Table, scores: Mapping[str, pa.Table]) -> list[Finding]:
    """Findings of every rule but that on twins, for the documents of one shard."""
    findings = [
        judge_blocked(table["url"].to_pylist(), config.blocked_urls, config.blocked_domains)
    ]
    if "language" in scores:
        findings += judge_language(config.language, scores["language"])
    if "quality" in scores:
        findings += judge_quality(config.quality, scores["quality"])
    if "boilerplate" in scores:
        findings += judge_columns(config.boilerplate, "boilerplate", scores["boilerplate"])
    for role in ("judged_quality", "toxicity"):
        if role in scores:
            findings += judge_judged(getattr(config, role), role, scores[role])
    if "contamination" in scores:
        rules = config.contamination
        findings += judge_columns(rules, "contamination", scores["contamination"])
    if "licence" in scores:
        findings.append(judge_licence(config.licence, scores["licence"]))
    if "pii" in scores:
        findings += judge_pii(config.pii, scores["pii"], word_counts(table, scores))
    return findings


def _kept_documents(
    config: SelectConfig,
    table: pa.Table,
    scores: Mapping[str, pa.Table],
    kept: list[int],
    tally: Tally,
) -> pa.Table:
    documents = table.take(pa.array(kept, type=pa.int64())).to_pylist()
    kinds = redacted_kinds(config.pii)
    site_lines = scores["site_lines"].to_pylist() if "site_lines" in scores else None
    for at, document in zip(kept, documents, strict=True):
        spans: list[Span] = []
        if "pii" in scores:
            spans = [Span(**span) for span in scores["pii"]["spans"][at].as_py()]
            tally.redacted.update(span.kind for span in spans if span.kind in kinds)
        if site_lines is not None:
            cuts = config.site_lines.cuts(document["text"], site_lines[at])
            tally.lines_cut += len(cuts)
            spans = _cut_lines(document, cuts, spans)
        if "pii" in scores:
            beside = named_beside(scores["pii"]["names_beside"][at].as_py())
            _redact(document, spans, beside, Redactor(kinds))
    tally.characters += sum(len(document["text"]) for document in documents)
    return pa.Table.from_pylist(documents, schema=DOCUMENT)


def _cut_lines(
    document: dict[str, Any], cuts: list[tuple[int, int]], spans: list[Span]
) -> list[Span]:
    """Take a site's own lines out of a document's text and headings; where its spans stand now."""
    text = document["text"]
    for start, end in cuts:
        heading = text[start:end].strip().lstrip("#").strip()
        if heading in document["headings"]:
            document["headings"].remove(heading)
    left, spans = cut(text, cuts, spans)
    if cuts:
        blank = len(left) - len(left.lstrip("\n"))
        left = left.strip("\n")
        spans = [Span(s.start - blank, s.end - blank, s.kind) for s in spans]
    document["text"] = left
    return spans


def _redact(
    document: dict[str, object],
    spans: list[Span],
    beside: Mapping[tuple[str, int], list[Span]],
    redactor: Redactor,
) -> None:
    """Replace the spans of the text, and what else is found beside it."""
    document["text"] = redactor.replace(str(document["text"]), spans)
    for name in ("title", "navigation"):
        document[name] = redactor.clean(str(document[name]), beside.get((name, 0), ()))
    for name in ("headings", "code"):
        parts = document[name]
        assert isinstance(parts, list)
        document[name] = [
            redactor.clean(part, beside.get((name, at), ())) for at, part in enumerate(parts)
        ]


def _nothing_left(tally: Tally) -> str:
    if not tally.reasons:
        return "select: the corpus holds no document"
    rule, count = min(tally.reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return (
        f"select: no document is left of {tally.dropped}; rule {rule} took most ({count}); "
        "widen its bound under select"
    )
