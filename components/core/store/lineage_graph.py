"""Provenance graph of the store, read from the manifests of its sealed folders.

An edge is a digest that a manifest names as a parent, so it leads to every folder of that content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from components.core.store.artifact import MANIFEST_FILE
from components.core.store.workdir import STAGE_FILE, stage_name


@dataclass(frozen=True)
class ArtifactNode:
    """Sealed folder, as its manifest describes it."""

    key: str
    format: str
    component: str
    digest: str
    code_digest: str
    """Digest of the code that made it."""
    config_digest: str
    """Digest of the config that made it."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Role -> digest."""
    stats: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    """Name -> bytes."""
    made_at: float = 0.0
    """Seconds since 1970."""
    finished: bool = True
    """False for the folder of a stage that failed, was stopped, or is running."""
    stage: str = ""
    """Name of the step that made it, which is that of its field in a run's config."""

    @property
    def name(self) -> str:
        """Folder, relative to the store's root."""
        return f"sealed/{self.key}" if self.finished else f"partial/{self.key}/out"

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


class ArtifactGraph:
    """Graph of artifact nodes, found by key and by digest."""

    def __init__(self, nodes: Iterable[ArtifactNode], unreadable: Iterable[str] = ()) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.unreadable = tuple(sorted(unreadable))
        """Keys of folders whose manifest is missing or damaged; they have no node."""

    @classmethod
    def read(cls, store: Path) -> ArtifactGraph:
        """Read the graph of a store from its manifests (1 ms for ten)."""
        unreadable: list[str] = []
        return cls(_read_nodes(store, unreadable), unreadable)

    def __iter__(self) -> Iterator[ArtifactNode]:
        return iter(self.nodes.values())

    def with_digest(self, digest: str) -> list[ArtifactNode]:
        """Nodes of one content, several where different keys gave equal bytes."""
        return self._by_digest.get(digest, [])

    def with_format(self, format_: str) -> list[ArtifactNode]:
        return [node for node in self if node.format == format_]

    def provenance_chain(self, digests: Iterable[str]) -> list[ArtifactNode]:
        """Ancestors of ``digests`` and their own nodes, in topological order.

        Of several folders with one content, the first by key of each component represents all: an
        attempt that returned its input's very bytes made them too, and its own ancestors must not
        vanish. A copy adopted from a file has no parents, so it counts only where no other node
        has that content.
        """
        ordered: list[ArtifactNode] = []
        seen: set[str] = set()

        def visit(digest: str) -> None:
            if digest in seen:
                return
            seen.add(digest)
            makers: dict[str, ArtifactNode] = {}
            for node in sorted(self.with_digest(digest), key=lambda n: (not n.parents, n.key)):
                if node.parents or not makers:
                    makers.setdefault(node.component, node)
            for node in makers.values():
                for _, parent in sorted(node.parents.items()):
                    visit(parent)
                ordered.append(node)

        for digest in digests:
            visit(digest)
        return ordered

    def upstream_keys(self, keys: Iterable[str]) -> set[str]:
        """``keys`` and the keys of all their ancestors; a digest leads to every folder of it."""
        reached, waiting = set[str](), [key for key in keys if key in self.nodes]
        while waiting:
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                parents = self.nodes[key].parents.values()
                waiting.extend(node.key for digest in parents for node in self.with_digest(digest))
        return reached

    def missing_parents(self, chain: Iterable[ArtifactNode]) -> dict[str, list[str]]:
        """Digests that nodes name as parents and no folder holds -> roles, ``stage.role``."""
        missing: dict[str, list[str]] = {}
        for node in chain:
            for role, digest in node.parents.items():
                if not self.with_digest(digest):
                    missing.setdefault(digest, []).append(f"{node.stage}.{role}")
        return missing

    def downstream_nodes(
        self,
        starts: Iterable[ArtifactNode],
        through: Callable[[ArtifactNode], bool] = lambda node: True,
    ) -> list[ArtifactNode]:
        """``starts`` and their descendants, along children that ``through`` accepts."""
        reached = {node.key: node for node in starts}
        waiting = list(reached.values())
        while waiting:
            node = waiting.pop()
            for child in self._children.get(node.digest, []):
                if child.key not in reached and through(child):
                    reached[child.key] = child
                    waiting.append(child)
        return list(reached.values())

    def tainted_nodes(
        self,
        holders: Collection[ArtifactNode],
        inspected: Callable[[ArtifactNode], bool] = lambda node: False,
    ) -> list[ArtifactNode]:
        """``holders`` and everything that could not have been made without them.

        A folder of the same bytes that was made without any of them clears that content and its
        descendants. Nodes for which ``inspected`` holds are tainted only as holders, since their
        content was examined.
        """
        keys = {node.key for node in holders}
        clean: dict[str, bool] = {}

        def is_clean(digest: str) -> bool:
            if digest not in clean:
                clean[digest] = False  # content derived only from itself clears nothing
                nodes = self.with_digest(digest)
                clean[digest] = not nodes or any(map(came_clean, nodes))
            return clean[digest]

        def came_clean(node: ArtifactNode) -> bool:
            if node.key in keys:
                return False
            return inspected(node) or all(is_clean(parent) for parent in node.parents.values())

        return [node for node in self if not is_clean(node.digest)]

    @cached_property
    def _by_digest(self) -> dict[str, list[ArtifactNode]]:
        by_digest: dict[str, list[ArtifactNode]] = {}
        for node in self:
            by_digest.setdefault(node.digest, []).append(node)
        return by_digest

    @cached_property
    def _children(self) -> dict[str, list[ArtifactNode]]:
        children: dict[str, list[ArtifactNode]] = {}
        for node in self:
            for parent in set(node.parents.values()):
                children.setdefault(parent, []).append(node)
        return children


def read_unfinished(store: Path) -> list[ArtifactNode]:
    """Nodes of unfinished stages' folders, which are in no graph, since they have no digest."""
    nodes = []
    for path in sorted(store.glob(f"partial/*/scratch/{STAGE_FILE}")):
        folder = path.parents[1]
        try:
            begun = json.loads(path.read_bytes())
            files = [file for file in (folder / "out").rglob("*") if file.is_file()]
            nodes.append(
                ArtifactNode(
                    key=folder.name,
                    format="",
                    component=str(begun["component"]),
                    digest="",
                    code_digest="",
                    config_digest="",
                    parents=dict(begun.get("parents", {})),
                    files={f.relative_to(folder / "out").as_posix(): 0 for f in files},
                    finished=False,
                    stage=stage_name(begun, str(begun["component"])),
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a run has just sealed it, or is making it anew
    return nodes


def _read_nodes(store: Path, unreadable: list[str]) -> list[ArtifactNode]:
    nodes = []
    for folder in sorted((store / "sealed").glob("*/")):
        try:
            nodes.append(_parse_node(folder, json.loads((folder / MANIFEST_FILE).read_bytes())))
        except FileNotFoundError:
            if folder.exists():  # else a run replaced it just now
                unreadable.append(folder.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(folder.name)
    return nodes


def _parse_node(folder: Path, manifest: dict[str, Any]) -> ArtifactNode:
    artifact = manifest["artifact"]
    lineage = artifact["lineage"]
    return ArtifactNode(
        key=folder.name,
        format=str(manifest["format"]),
        component=str(lineage["component"]),
        digest=str(artifact["digest"]),
        code_digest=str(lineage["code"]),
        config_digest=str(lineage["config"]),
        parents={str(role): str(digest) for role, digest in lineage["parents"].items()},
        stats=dict(artifact["stats"]),
        note=str(artifact.get("note", "")),
        config=manifest.get("config") or {},
        files={str(name): int(size) for name, size in manifest["files"].items()},
        made_at=(folder / MANIFEST_FILE).stat().st_mtime,
        stage=stage_name(manifest, str(lineage["component"])),
    )
