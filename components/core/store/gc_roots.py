"""What must stay in the store, and why: the roots, and all that they came from.

A lineage names its parents by digest. Several keys may hold equal content, and a lineage does not
say which of them it was: all of them count as reached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components.core.store.lineage_graph import ArtifactGraph


@dataclass(frozen=True)
class Root:
    """What must stay, and why: keys and digests that everything else is reached from."""

    why: str
    keys: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()


def reach(graph: ArtifactGraph, roots: Iterable[Root]) -> dict[str, str]:
    """key -> why it stays, for all that the roots reach; the first root to do so names it."""
    kept: dict[str, str] = {}
    for root in roots:
        held = (node.key for digest in root.digests for node in graph.of(digest))
        for key in graph.upstream([*root.keys, *held]):
            kept.setdefault(key, root.why)
    return kept
