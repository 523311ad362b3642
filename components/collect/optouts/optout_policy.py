"""Opt-outs: what a site or a page says about its use for AI, what that means, and what we do.

A *signal* is one such statement with its own words and where they stood. Signals of a site come
from robots.txt, ``/.well-known/tdmrep.json`` and ``/ai.txt`` (``sitesignals``), those of a page
from its headers and its head (``pagesignals``). One that says no takes the page out where the
policy is ``honour``; where it is ``record``, it is noted in the ledger alone. One no is enough,
whatever the others say, with one exception that its authors made: of TDMRep's three places the one
nearest to the page counts (W3C Community Group report "TDM Reservation Protocol", May 2024).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from components.core.config.stage_config import StageConfig

Verdict = Literal["denied", "allowed", "noted", "overridden"]
OPTED_OUT = "opted out: "
"""Begins the reason of a page whose owner says no."""
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
"""Robots that collect for training. Those that answer a person's question are not among them."""
SIGNAL = pa.struct(
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
    """How opt-outs from AI training are treated."""

    policy: Literal["honour", "record"] = Field(
        default="honour",
        description="honour: a page whose owner says no is left out; record: it is only noted",
    )
    agents: list[str] = Field(
        default=list(TRAINING_AGENTS),
        description="robots that collect for training: a page that one of them may not fetch is "
        "opted out",
    )
    refused_licences: list[str] = Field(
        default=[],
        description="licences that count as a no, as patterns: cc-by-nc-*, *-nd-*",
    )


@dataclass(frozen=True)
class Signal:
    """One statement about the use of a page."""

    kind: str
    """robots-agent, content-signal, content-usage, tdmrep, noai, noimageai, ai.txt, licence."""
    value: str
    verdict: Verdict
    evidence: str
    source: str
    date: str = ""
    """When it was heard, where that is not the moment of the crawl."""

    def row(self, date: str) -> dict[str, Any]:
        """As an element of the ledger's ``optouts``."""
        values = {name: text.replace("\0", "\ufffd") for name, text in asdict(self).items()}
        evidence = values["evidence"][:MAX_EVIDENCE]
        return {**values, "evidence": evidence, "date": self.date or date}


def reservation(reserved: bool, evidence: str, source: str) -> Signal:
    """TDMRep's statement, wherever it stands."""
    verdict: Verdict = "denied" if reserved else "allowed"
    return Signal("tdmrep", f"tdm-reservation={int(reserved)}", verdict, evidence, source)


def weigh(signals: Iterable[Signal]) -> list[Signal]:
    """Each once, in a fixed order, with TDMRep's farther places overridden by the nearest.

    Signals come from far to near: the site's files, then the headers, then the page itself.
    """
    once = list(dict.fromkeys(signals))
    reservations = [at for at, signal in enumerate(once) if signal.kind == "tdmrep"]
    for at in reservations[:-1]:
        if once[at].source != once[reservations[-1]].source:
            once[at] = replace(once[at], verdict="overridden")
    return sorted(once, key=lambda s: (s.kind, s.source, s.value, s.evidence))


def refusal(signals: Sequence[Signal]) -> str:
    """The ledger's reason where a signal says no, else nothing."""
    first = next((signal for signal in signals if signal.verdict == "denied"), None)
    return f"{OPTED_OUT}{first.kind}: {first.value} ({first.source})" if first else ""
