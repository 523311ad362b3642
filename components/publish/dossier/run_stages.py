"""Stage names of the run that registered a version.

Two stages may come to one artifact, whose manifest names the first; the record names both.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from components.core.store.lineage_graph import ArtifactNode


@dataclass(frozen=True)
class RunStages:
    """Stage names by a run's record; empty where no record is left."""

    run: str = ""
    names: Mapping[str, str] = field(default_factory=dict)
    """Place and digest of a sealed artifact -> the stage that made or found it."""

    def of(self, node: ArtifactNode) -> str:
        """The run's name for a stage, else that of its manifest."""
        # Two stages may come to one content; another run may have found it in another place.
        return self.names.get(node.name) or self.names.get(node.digest, node.stage)


def read_run_stages(runs: Path, uri: str) -> RunStages:
    """Stages of the first run that came to the version ``uri``; later runs change nothing."""
    by_start = sorted(_registered(runs, uri), key=lambda pair: pair[0])
    return by_start[0][1] if by_start else RunStages()


def _registered(runs: Path, uri: str) -> Iterator[tuple[str, RunStages]]:
    """(start, stages) of every run that came to a version."""
    named = uri.encode()
    for path in runs.glob("*.json"):
        try:
            content = path.read_bytes()
            if named not in content:
                continue
            record = json.loads(content)
            steps = record["steps"]
            if not any(step["artifact"] == uri for step in steps):
                continue
            names: dict[str, str] = {}
            for step in steps:
                if step["artifact"].startswith("sealed/"):
                    names.setdefault(step["artifact"], step["stage"])
                    names.setdefault(step["digest"], step["stage"])
            yield str(record["started"]), RunStages(str(record["run"]), names)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # deleted meanwhile, or no record of a run; `modelmill doctor` tells of it
