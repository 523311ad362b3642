"""Losses of each source of documents in a stage, and an alarm where they are too many.

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

FILE = "sources.json"


class AlarmConfig(StageConfig):
    """From when on a source's losses are told aloud."""

    share: float = Field(default=0.9, ge=0, le=1, description="of its documents that were dropped")
    documents: int = Field(default=20, ge=1, description="a source has at least so many")


class Sources:
    """Documents and drops by source."""

    def __init__(self) -> None:
        self._documents: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._dropped: Counter[str] = Counter()

    def count(self, urls: Sequence[str], reasons: Mapping[int, Sequence[str]]) -> None:
        """Add documents; ``reasons`` holds why, for the places of those that were dropped."""
        for at, url in enumerate(urls):
            source = source_of(url)
            self._documents[source] += 1
            if at in reasons:
                self._dropped[source] += 1
                self._reasons.setdefault(source, Counter()).update(reasons[at])

    def write(self, folder: Path, config: AlarmConfig, stage: str) -> list[str]:
        """Write ``sources.json``; a line for every source that lost too much in ``stage``."""
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
        (folder / FILE).write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return lines


def source_of(url: str) -> str:
    """The host of a page; of a file its first folder, or its name."""
    parts = urlsplit(url)
    return parts.hostname or parts.path.strip("/").partition("/")[0] or url
