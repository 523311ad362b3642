"""Opt-out policy: signals about a page's use for AI training, their verdicts, and the consequence.

A *signal* is one statement with its own words and its place. Signals of a site come from
robots.txt, ``/.well-known/tdmrep.json`` and ``/ai.txt`` (``site_signals``), those of a page from
its headers and its head (``page_signals``). A denial excludes the page where the policy is
``honour``; where it is ``record``, it is recorded in the ledger alone. One denial is enough,
whatever the other signals say, with one exception that its authors made: of TDMRep's three places
the one nearest to the page counts (W3C Community Group report "TDM Reservation Protocol", May
2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from components.core.config.stage_config import StageConfig

OptoutVerdict = Literal["denied", "allowed", "noted", "overridden"]
OPTED_OUT = "opted out: "
"""Prefix of the ledger's reason for a page whose owner denies its use."""
MAX_EVIDENCE = 1000
"""Characters of evidence: a statement is short, and a ledger is no place for a page."""
TRAINING_AGENTS = (
    "AI2Bot",
    "Amazonbot",
    "anthropic-ai",
    "Applebot-Extended",
    "Bytespider",
    "CCBot",
    "ClaudeBot",
    "cohere-training-data-crawler",
    "Diffbot",
    "FacebookBot",
    "Google-CloudVertexBot",
    "Google-Extended",
    "GPTBot",
    "img2dataset",
    "Kangaroo Bot",
    "Meta-ExternalAgent",
    "omgili",
    "PanguBot",
    "Timpibot",
    "VelenPublicWebCrawler",
    "Webzio-Extended",
)
"""Robots that collect for training; those that fetch a page at a person's request are not here."""
SIGNAL_TYPE = pa.struct(
    [
        pa.field("kind", pa.string()),
        pa.field("value", pa.string()),  # what was said, in one spelling: "ai-train=no"
        pa.field("verdict", pa.string()),  # denied, allowed, noted, overridden
        pa.field("evidence", pa.string()),  # as it was written
        pa.field("source", pa.string()),  # where it was written
        pa.field("date", pa.string()),  # the crawl's ``as_of``
    ]
)


class OptoutConfig(StageConfig):
    """Treatment of opt-outs from AI training."""

    policy: Literal["honour", "record"] = Field(
        default="honour",
        description="honour: leave out a page whose owner denies its use for training; record: "
        "only note the denial in the ledger",
    )
    agents: list[str] = Field(
        default=list(TRAINING_AGENTS),
        description="names of robots that collect for training: a page that robots.txt or a robots "
        "meta element closes to one of them by name is opted out",
    )
    refused_licences: list[str] = Field(
        default=[],
        description="licences that deny use for training, as patterns: cc-by-nc-*, *-nd-*",
    )


@dataclass(frozen=True)
class OptoutSignal:
    """One statement about the use of a page for AI training."""

    kind: str
    """robots-agent, content-signal, content-usage, tdmrep, noai, noimageai, ai.txt, licence."""
    value: str
    verdict: OptoutVerdict
    evidence: str
    source: str
    date: str = ""
    """Moment at which it was read, where that is not the moment of the crawl."""

    def ledger_row(self, date: str) -> dict[str, Any]:
        """Element of the ledger's ``optouts``; ``date`` is the crawl's."""
        values = {name: text.replace("\0", "\ufffd") for name, text in asdict(self).items()}
        evidence = values["evidence"][:MAX_EVIDENCE]
        return {**values, "evidence": evidence, "date": self.date or date}


def tdmrep_signal(reserved: bool, evidence: str, source: str) -> OptoutSignal:
    """TDMRep signal, wherever it stands.

    Args:
        reserved: The value of ``tdm-reservation``.
        evidence: The statement as it was written.
        source: Where it was written.
    """
    verdict: OptoutVerdict = "denied" if reserved else "allowed"
    return OptoutSignal("tdmrep", f"tdm-reservation={int(reserved)}", verdict, evidence, source)


def resolve_signals(signals: Iterable[OptoutSignal]) -> list[OptoutSignal]:
    """Deduplicate and order signals, with TDMRep's farther places overridden by the nearest.

    Signals come from far to near: the site's files, then the headers, then the page itself.
    """
    unique = list(dict.fromkeys(signals))
    reservations = [at for at, signal in enumerate(unique) if signal.kind == "tdmrep"]
    for at in reservations[:-1]:
        if unique[at].source != unique[reservations[-1]].source:
            unique[at] = replace(unique[at], verdict="overridden")
    return sorted(unique, key=lambda s: (s.kind, s.source, s.value, s.evidence))


def denial_reason(signals: Sequence[OptoutSignal]) -> str:
    """Ledger reason of the first denial among signals; empty for none."""
    first = next((signal for signal in signals if signal.verdict == "denied"), None)
    return f"{OPTED_OUT}{first.kind}: {first.value} ({first.source})" if first else ""
