"""What reaches what: the graph of sealed artifacts, by the digests in their manifests.

A lineage names its parents by digest. Several keys may hold equal content, and a lineage does not
say which of them it was: all of them count as reached.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from components.core.artifact import MANIFEST


@dataclass(frozen=True)
class Node:
    """One sealed artifact."""

    key: str
    digest: str
    format: str
    component: str
    parents: Mapping[str, str]
    """role -> digest"""
    size: int
    """Bytes, by its manifest."""
    made: float
    """Seconds since 1970."""


@dataclass(frozen=True)
class Root:
    """What must stay, and why: keys and digests that everything else is reached from."""

    why: str
    keys: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Graph:
    """Sealed artifacts by key and by digest."""

    nodes: Mapping[str, Node]
    unreadable: tuple[str, ...] = ()
    """Keys of sealed folders whose manifest is missing or damaged."""
    _keys: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, nodes: Iterable[Node], unreadable: Iterable[str] = ()) -> Graph:
        """The graph of given nodes."""
        by_key = {node.key: node for node in nodes}
        by_digest: dict[str, list[str]] = {}
        for node in by_key.values():
            by_digest.setdefault(node.digest, []).append(node.key)
        return cls(by_key, tuple(sorted(unreadable)), by_digest)

    def keys(self, digest: str) -> Sequence[str]:
        """Every key whose content has ``digest``."""
        return self._keys.get(digest, ())

    def upstream(self, keys: Iterable[str]) -> set[str]:
        """``keys`` and the keys of everything that they came from."""
        reached, waiting = set[str](), [key for key in keys if key in self.nodes]
        while waiting:
            key = waiting.pop()
            if key in reached:
                continue
            reached.add(key)
            parents = self.nodes[key].parents.values()
            waiting.extend(parent for digest in parents for parent in self.keys(digest))
        return reached

    def reach(self, roots: Iterable[Root]) -> dict[str, str]:
        """key -> why it stays, for all that the roots reach; the first root to do so names it."""
        kept: dict[str, str] = {}
        for root in roots:
            held = (key for digest in root.digests for key in self.keys(digest))
            for key in self.upstream([*root.keys, *held]):
                kept.setdefault(key, root.why)
        return kept


def read_graph(store: Path) -> Graph:
    """The graph of a store, from its manifests (a millisecond for ten)."""
    nodes, unreadable = [], []
    for folder in (store / "sealed").glob("*/"):
        try:
            nodes.append(_node(folder, json.loads((folder / MANIFEST).read_bytes())))
        except FileNotFoundError:
            if folder.exists():  # else a run replaced it just now
                unreadable.append(folder.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(folder.name)
    return Graph.of(nodes, unreadable)


def _node(folder: Path, manifest: dict[str, Any]) -> Node:
    artifact = manifest["artifact"]
    return Node(
        key=folder.name,
        digest=str(artifact["digest"]),
        format=str(manifest["format"]),
        component=str(artifact["lineage"]["component"]),
        parents={str(role): str(d) for role, d in artifact["lineage"]["parents"].items()},
        size=sum(int(size) for size in manifest["files"].values()),
        made=(folder / MANIFEST).stat().st_mtime,
    )
