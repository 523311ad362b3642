"""Roots of a garbage collection of the store, and everything reachable from them.

A lineage names its parents by digest. Several keys may hold equal content, and a lineage does not
say which of them was meant: all of them count as reachable.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from components.core.store.lineage_graph import ArtifactGraph


@dataclass(frozen=True)
class GcRoot:
    """Keys and digests that must be kept, with the reason."""

    why: str
    keys: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()


def find_reachable(graph: ArtifactGraph, roots: Iterable[GcRoot]) -> dict[str, str]:
    """Key -> reason for keeping it, given by the first root that reaches it."""
    reasons: dict[str, str] = {}
    for root in roots:
        held = (node.key for digest in root.digests for node in graph.with_digest(digest))
        for key in graph.upstream_keys([*root.keys, *held]):
            reasons.setdefault(key, root.why)
    return reasons
