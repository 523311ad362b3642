"""Documents that a stage dropped, by source, and an alarm for sources that lost too many.

A stage that takes nearly all pages of one site is more often at fault (a changed template, a broken
encoding) than it is right about the site.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field

from components.core.config.stage_config import StageConfig

SOURCES_FILE = "sources.json"


class AlarmConfig(StageConfig):
    """Threshold beyond which a source's losses raise an alarm."""

    share: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="share of a source's documents that may be dropped without an alarm",
    )
    documents: int = Field(default=20, ge=1, description="least documents of a source for an alarm")


class SourceLosses:
    """Counts of documents and drops, by source."""

    def __init__(self) -> None:
        self._documents: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._dropped: Counter[str] = Counter()

    def count_documents(self, urls: Sequence[str], reasons: Mapping[int, Sequence[str]]) -> None:
        """Count documents; ``reasons``: index of a dropped one -> rules that dropped it."""
        for at, url in enumerate(urls):
            source = source_name(url)
            self._documents[source] += 1
            if at in reasons:
                self._dropped[source] += 1
                self._reasons.setdefault(source, Counter()).update(reasons[at])

    def write_losses(self, folder: Path, config: AlarmConfig, stage: str) -> list[str]:
        """Write ``sources.json``.

        Args:
            folder: folder of the artifact.
            config: threshold of the alarm.
            stage: name of the stage, for the lines.

        Returns:
            A line for every source that raises an alarm.
        """
        rows, lines = [], []
        for source, documents in sorted(self._documents.items()):
            dropped = self._dropped[source]
            reasons = self._reasons.get(source, Counter())
            main = min(reasons, key=lambda rule: (-reasons[rule], rule), default=None)
            alarm = documents >= config.documents and dropped > config.share * documents
            row = {"source": source, "documents": documents, "dropped": dropped}
            rows.append({**row, "main_reason": main, "alarm": alarm})
            if alarm:
                lines.append(
                    f"{source} lost {dropped} of {documents} documents in {stage}, mostly by "
                    f"'{main}'; {stage}.alarm says when this is told"
                )
        (folder / SOURCES_FILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return lines


def source_name(url: str) -> str:
    """Source of a page: its host; for a file its first folder, or its name."""
    parts = urlsplit(url)
    return parts.hostname or parts.path.strip("/").partition("/")[0] or url
