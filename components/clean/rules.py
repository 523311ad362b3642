"""The rules of ``select``: all thresholds, and what each says of a shard of documents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from components.core.config.blocklist import Blocklist
from components.core.config.stage_config import StageConfig
from components.text.pii.find_pii import KINDS, NAME_KINDS
from components.text.spans import EXAMPLE

Action = Literal["redact", "keep", "drop"]


class LanguageRules(StageConfig):
    """Which languages stay. Technical prose is hard to tell apart, so the bound is a distance."""

    allowed: tuple[str, ...] = Field(
        default=("en",), description="ISO 639-1 codes that stay; empty: any language"
    )
    max_distance: float = Field(
        default=0.08,
        ge=0,
        le=1,
        description="confidence that the best allowed language may lie below the best of all",
    )
    min_letters: int = Field(
        default=400, ge=0, description="pages with fewer letters of prose are not judged"
    )
    min_confidence: float = Field(
        default=0.25,
        ge=0,
        le=1,
        description="pages whose best language is less certain (lists of names) are not judged",
    )
    min_share: float = Field(
        default=0, ge=0, le=1, description="share of a page's letters in allowed languages"
    )


class QualityRules(StageConfig):
    """Bounds on the published statistics, widened for Markdown with code.

    The published bound, made for prose, stands in each description.
    """

    min_words: int = Field(default=10, ge=0, description="words outside code; Gopher 50")
    max_words: int = Field(default=1_000_000, ge=1, description="Gopher 100,000")
    min_mean_word_length: float = Field(default=2, ge=0, description="Gopher 3")
    max_mean_word_length: float = Field(default=40, ge=1, description="Gopher 10")
    max_symbol_ratio: float = Field(default=0.3, ge=0, description="Gopher 0.1")
    max_bullet_lines: float = Field(default=0.95, ge=0, le=1, description="Gopher 0.9")
    max_ellipsis_lines: float = Field(default=0.3, ge=0, le=1, description="Gopher 0.3")
    min_alphabetic_words: float = Field(default=0.4, ge=0, le=1, description="Gopher 0.8")
    min_stop_words: int = Field(default=0, ge=0, le=8, description="English only; Gopher 2")
    min_sentences: int = Field(default=0, ge=0, description="C4 3")
    max_lorem_ipsum: int = Field(default=1, ge=0, description="occurrences; C4 0")
    max_curly_braces: int = Field(default=1_000_000, ge=0, description="C4 0")
    min_punctuated_lines: float = Field(default=0, ge=0, le=1, description="FineWeb 0.12")
    max_short_lines: float = Field(default=1, ge=0, le=1, description="FineWeb 0.67")
    max_code_share: float = Field(default=1, ge=0, le=1, description="characters inside code")
    max_duplicate_lines: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.3")
    max_duplicate_line_characters: float = Field(
        default=0.9, ge=0, le=1, description="Gopher 0.2, FineWeb 0.1"
    )
    max_duplicate_paragraphs: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.3")
    max_duplicate_paragraph_characters: float = Field(
        default=0.9, ge=0, le=1, description="Gopher 0.2"
    )
    max_top_2gram: float = Field(default=0.5, ge=0, le=1, description="Gopher 0.20")
    max_top_3gram: float = Field(default=0.5, ge=0, le=1, description="Gopher 0.18")
    max_top_4gram: float = Field(default=0.5, ge=0, le=1, description="Gopher 0.16")
    max_duplicate_5gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.15")
    max_duplicate_6gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.14")
    max_duplicate_7gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.13")
    max_duplicate_8gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.12")
    max_duplicate_9gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.11")
    max_duplicate_10gram: float = Field(default=0.9, ge=0, le=1, description="Gopher 0.10")


class PiiRules(StageConfig):
    """What happens to each kind of span, and how many a page may hold."""

    secret: Action = Field(default="redact", description="keys, tokens, private keys")
    login: Action = Field(default="redact", description="user and password in an address")
    email: Action = Field(default="redact", description="e-mail addresses")
    iban: Action = Field(default="redact", description="bank accounts")
    card: Action = Field(default="redact", description="payment cards")
    national_id: Action = Field(
        default="redact", description="social security, tax, passport and licence numbers"
    )
    phone: Action = Field(default="redact", description="phone numbers")
    ip: Action = Field(default="redact", description="public IP addresses")
    person: Action = Field(default="redact", description="names of people, with pii.names.model")
    place: Action = Field(default="redact", description="places, with pii.names.model")
    examples: Action = Field(
        default="keep", description="what documentation writes as an example, of any kind"
    )
    max_per_1000_words: float = Field(
        default=100,
        ge=0,
        description="spans that are not kept, names apart; address lists hold more",
    )

    def action(self, kind: str) -> Action:
        """What happens to spans of ``kind`` (``email``, ``email_example`` ...)."""
        if kind.endswith(EXAMPLE):
            return self.examples
        chosen: Action = getattr(self, kind)
        return chosen


class DuplicateRules(StageConfig):
    """From when on a document is a twin of one that is kept."""

    exact: bool = Field(default=True, description="drop documents of equal normalised text")
    max_similarity: float = Field(
        default=0.8,
        ge=0.5,
        le=1,
        description="Jaccard similarity of word 5-shingles from which a twin is dropped",
    )
    max_contained: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="share of a page's words in long passages of one older page that is kept",
    )


class BoilerplateRules(StageConfig):
    """How much of a page may be menus and footers."""

    max_mean_probability: float = Field(default=0.8, ge=0, le=1, description="mean over lines")
    max_line_share: float = Field(default=0.85, ge=0, le=1, description="lines that are")
    max_character_share: float = Field(default=0.85, ge=0, le=1, description="characters")


class SiteLineRules(StageConfig):
    """Which lines count as a site's own frame, and are cut out of its pages."""

    min_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="of a site's pages that have the line in their head or foot; above 1/2 none of "
        "a page's own words is likely to",
    )
    min_documents: int = Field(
        default=10, ge=2, description="a site has at least so many pages; fewer say nothing"
    )
    max_cut: float = Field(
        default=0.5, ge=0, le=1, description="of a page's text; where more recurs, nothing is cut"
    )

    def cuts(self, text: str, scores: Mapping[str, Any]) -> list[tuple[int, int]]:
        """(start, end) of the lines of ``text`` to cut, each with the line ends after it.

        Args:
            text: A document's text.
            scores: Its row of ``site_lines``.
        """
        if scores["site_documents"] < self.min_documents:
            return []
        found = [line for line in scores["lines"] if line["share"] >= self.min_share]
        if sum(line["end"] - line["start"] for line in found) > self.max_cut * len(text):
            return []
        return [(line["start"], _next_line(text, line["end"])) for line in found]


def _next_line(text: str, at: int) -> int:
    """Where the next line that is not empty begins."""
    while text.startswith("\n", at):
        at += 1
    return at


class JudgedRules(StageConfig):
    """What the judge that learnt from the user's examples of good documents must say."""

    min_probability: float = Field(
        default=0.5, ge=0, le=1, description="of being good; without examples nothing is asked"
    )


class ToxicityRules(StageConfig):
    """What the judge that learnt from the user's examples of toxic documents may say."""

    max_probability: float = Field(
        default=0.5, ge=0, le=1, description="of being toxic; without examples nothing is asked"
    )


class LicenceRules(StageConfig):
    """Which licences stay, by the signs that pages show."""

    forbidden: tuple[str, ...] = Field(
        default=(), description="SPDX identifiers, with * for any part: CC-BY-NC*, LicenseRef-*"
    )
    required: bool = Field(default=False, description="whether a page must show a licence to stay")


class ContaminationRules(StageConfig):
    """How much of an evaluation item a page may hold."""

    max_overlap: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="share of an item's weight; contamination.least says what is found at all",
    )


@dataclass(frozen=True)
class Finding:
    """What one rule says of each document of a shard."""

    rule: str
    scores: NDArray[np.float64]
    at_least: float | None
    at_most: float | None
    passed: NDArray[np.bool_]


def bounded(
    rule: str,
    scores: NDArray[np.float64],
    at_least: float | None = None,
    at_most: float | None = None,
) -> Finding:
    """A rule that compares a score with its bounds, both inclusive."""
    passed = np.ones(len(scores), dtype=bool)
    if at_least is not None:
        passed &= scores >= at_least
    if at_most is not None:
        passed &= scores <= at_most
    return Finding(rule, scores, at_least, at_most, passed)


def judge_blocked(urls: list[str], blocked: tuple[str, ...], domains: tuple[str, ...]) -> Finding:
    """1 where a page's address or one above it, or its host or a parent of it, is on the list."""
    blocklist = Blocklist([*blocked, *domains])
    found = [float(blocklist.covers(url)) for url in urls]
    return bounded("blocked", np.array(found, dtype=np.float64), at_most=0.0)


def judge_language(rules: LanguageRules, table: pa.Table) -> list[Finding]:
    """How far the best allowed language lies below the best of all."""
    if not rules.allowed:
        return []
    distances, shares = [], []
    for letters, confidence, candidates, held in zip(
        table["letters"].to_pylist(),
        table["confidence"].to_pylist(),
        table["candidates"].to_pylist(),
        table["shares"].to_pylist(),
        strict=True,
    ):
        best = max(
            (c["confidence"] for c in candidates if c["language"] in rules.allowed), default=None
        )
        judged = letters >= rules.min_letters and confidence >= rules.min_confidence
        distances.append((confidence - best if best is not None else 1.0) if judged else 0.0)
        share = sum(part["share"] for part in held if part["language"] in rules.allowed)
        shares.append(share if judged else 1.0)
    return [
        bounded(
            "language", np.array(distances, dtype=np.float64).round(4), at_most=rules.max_distance
        ),
        bounded(
            "language.share", np.array(shares, dtype=np.float64).round(4), at_least=rules.min_share
        ),
    ]


_UNSPACED = 0.2
"""Share of a page's characters in scripts without spaces from which counts of words say nothing."""
_OF_WORDS = re.compile(
    r"quality\.(words|mean_word_length|symbol_ratio|alphabetic_words|stop_words|sentences|.*gram)"
)


def judge_quality(rules: QualityRules, table: pa.Table) -> list[Finding]:
    """``judge_columns``; what rests on words is not held against a page written without spaces.

    Chinese, Japanese or Thai have no words by white space, as which the published rules count them.
    """
    unspaced = table["unspaced"].to_numpy() > _UNSPACED
    findings = judge_columns(rules, "quality", table)
    return [
        replace(one, passed=one.passed | unspaced) if _OF_WORDS.fullmatch(one.rule) else one
        for one in findings
    ]


def judge_columns(rules: StageConfig, role: str, table: pa.Table) -> list[Finding]:
    """``min_x`` and ``max_x`` of ``rules`` against column ``x``."""
    bounds: dict[str, dict[str, float]] = {}
    for name, value in rules.model_dump().items():
        side, _, column = name.partition("_")
        bounds.setdefault(column, {})[side] = float(value)
    return [
        bounded(
            f"{role}.{column}",
            table[column].to_numpy().astype(np.float64),
            sides.get("min"),
            sides.get("max"),
        )
        for column, sides in bounds.items()
    ]


def judge_judged(rules: StageConfig, role: str, table: pa.Table) -> list[Finding]:
    """Bounds on the probability, where there is one."""
    return [] if table["probability"].null_count else judge_columns(rules, role, table)


def judge_licence(rules: LicenceRules, table: pa.Table) -> Finding:
    """1 where the licence is forbidden, or is missing and required."""
    found = [
        float(
            any(fnmatchcase(licence, pattern) for pattern in rules.forbidden)
            or (rules.required and not licence)
        )
        for licence in table["licence"].to_pylist()
    ]
    return bounded("licence", np.array(found, dtype=np.float64), at_most=0.0)


def judge_pii(rules: PiiRules, table: pa.Table, words: NDArray[np.float64]) -> list[Finding]:
    """Spans whose kind drops a page, and how densely a page holds those that are not kept."""
    dropping, removed = [], []
    for spans in table["spans"].to_pylist():
        actions = [rules.action(span["kind"]) for span in spans]
        dropping.append(actions.count("drop"))
        # A page of history is full of names; only what has a form of its own makes a list of it.
        named = sum(
            span["kind"] in NAME_KINDS and a != "keep"
            for span, a in zip(spans, actions, strict=True)
        )
        removed.append(len(actions) - actions.count("keep") - named)
    density = np.array(removed, dtype=np.float64) * 1000 / np.maximum(words, 100)
    return [
        bounded("pii.forbidden", np.array(dropping, dtype=np.float64), at_most=0.0),
        bounded("pii.density", density, at_most=rules.max_per_1000_words),
    ]


def redacted_kinds(rules: PiiRules) -> frozenset[str]:
    """Kinds that are replaced by placeholders."""
    kinds = [kind + suffix for kind in KINDS for suffix in ("", EXAMPLE)] + [*NAME_KINDS]
    return frozenset(kind for kind in kinds if rules.action(kind) == "redact")


def failing(findings: list[Finding]) -> dict[int, list[str]]:
    """Document -> names of the rules it fails, for documents that fail one."""
    reasons: dict[int, list[str]] = {}
    for finding in findings:
        for at in np.flatnonzero(~finding.passed).tolist():
            reasons.setdefault(at, []).append(finding.rule)
    return reasons


def word_counts(table: pa.Table, scores: Mapping[str, pa.Table]) -> NDArray[np.float64]:
    """Words of each document: as the quality scorer counted them, else by white space."""
    if "quality" in scores:
        return np.asarray(scores["quality"]["words"].to_numpy(), dtype=np.float64)
    return np.array([len(text.split()) for text in table["text"].to_pylist()], dtype=np.float64)
