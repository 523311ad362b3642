"""The graph of what the store holds: which sealed folder was made from which, read from manifests.

An edge is a digest that a manifest names as a parent, so it goes to every folder of that content.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from components.core.store.artifact import MANIFEST
from components.core.store.workdir import STAGE_FILE


@dataclass(frozen=True)
class Node:
    """One sealed folder, as its manifest tells."""

    key: str
    format: str
    component: str
    digest: str
    code: str
    """Digest of the code that made it."""
    configured: str
    """Digest of the config that made it."""
    parents: Mapping[str, str] = field(default_factory=dict)
    """Role -> digest."""
    stats: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, int] = field(default_factory=dict)
    """Name -> bytes."""
    made: float = 0.0
    """Seconds since 1970."""
    finished: bool = True
    """False for what a stage wrote that has failed, was stopped, or is at work."""

    @property
    def name(self) -> str:
        """Where it lies, relative to the store's root."""
        return f"sealed/{self.key}" if self.finished else f"partial/{self.key}/out"

    @property
    def stage(self) -> str:
        """The component's own name: ``pack_tokens``."""
        return self.component.rpartition(".")[2]

    @property
    def bytes(self) -> int:
        return sum(self.files.values())


class ArtifactGraph:
    """Nodes by key and by digest."""

    def __init__(self, nodes: Iterable[Node], unreadable: Iterable[str] = ()) -> None:
        self.nodes = {node.key: node for node in nodes}
        self.unreadable = tuple(sorted(unreadable))
        """Keys of folders whose manifest is missing or damaged; they are no nodes."""

    @classmethod
    def read(cls, store: Path) -> ArtifactGraph:
        """The graph of a store, from its manifests (a millisecond for ten)."""
        unreadable: list[str] = []
        return cls(_read(store, unreadable), unreadable)

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes.values())

    def of(self, digest: str) -> list[Node]:
        """Folders of one content: two keys may have come out equal."""
        return self._by_digest.get(digest, [])

    def of_format(self, format_: str) -> list[Node]:
        return [node for node in self if node.format == format_]

    def chain(self, digests: Iterable[str]) -> list[Node]:
        """What these contents were made from and they themselves, makers before what they made.

        Of several folders with one content the first by key of each component stands for all: an
        attempt that ended with its input's very bytes has made them too, and what it was made
        from must not vanish. A copy that was adopted from a file knows no parents, so it stands
        only for itself.
        """
        ordered: list[Node] = []
        seen: set[str] = set()

        def visit(digest: str) -> None:
            if digest in seen:
                return
            seen.add(digest)
            makers: dict[str, Node] = {}
            for node in sorted(self.of(digest), key=lambda n: (not n.parents, n.key)):
                if node.parents or not makers:
                    makers.setdefault(node.component, node)
            for node in makers.values():
                for _, parent in sorted(node.parents.items()):
                    visit(parent)
                ordered.append(node)

        for digest in digests:
            visit(digest)
        return ordered

    def upstream(self, keys: Iterable[str]) -> set[str]:
        """``keys`` and the keys of all that they came from, whichever folder a digest meant."""
        reached, waiting = set[str](), [key for key in keys if key in self.nodes]
        while waiting:
            key = waiting.pop()
            if key not in reached:
                reached.add(key)
                parents = self.nodes[key].parents.values()
                waiting.extend(node.key for digest in parents for node in self.of(digest))
        return reached

    def gone(self, chain: Iterable[Node]) -> dict[str, list[str]]:
        """Digests that a chain's nodes name as parents and no folder holds any more -> roles."""
        missing: dict[str, list[str]] = {}
        for node in chain:
            for role, digest in node.parents.items():
                if not self.of(digest):
                    missing.setdefault(digest, []).append(f"{node.stage}.{role}")
        return missing

    def reached(
        self, starts: Iterable[Node], through: Callable[[Node], bool] = lambda node: True
    ) -> list[Node]:
        """``starts`` and what was made from them, step by step, where ``through`` lets it on."""
        found = {node.key: node for node in starts}
        waiting = list(found.values())
        while waiting:
            node = waiting.pop()
            for child in self._children.get(node.digest, []):
                if child.key not in found and through(child):
                    found[child.key] = child
                    waiting.append(child)
        return list(found.values())

    def tainted(
        self, holders: Collection[Node], judged: Callable[[Node], bool] = lambda node: False
    ) -> list[Node]:
        """``holders`` and all that could not have come about without them.

        A folder of the same bytes that was made without any of them clears that content, and what
        was made from it. What is ``judged`` was looked into, and is tainted only as a holder.
        """
        keys = {node.key for node in holders}
        clean: dict[str, bool] = {}

        def is_clean(digest: str) -> bool:
            if digest not in clean:
                clean[digest] = False  # content that came of itself alone clears nothing
                found = self.of(digest)
                clean[digest] = not found or any(map(came_clean, found))
            return clean[digest]

        def came_clean(node: Node) -> bool:
            if node.key in keys:
                return False
            return judged(node) or all(is_clean(parent) for parent in node.parents.values())

        return [node for node in self if not is_clean(node.digest)]

    @cached_property
    def _by_digest(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self:
            found.setdefault(node.digest, []).append(node)
        return found

    @cached_property
    def _children(self) -> dict[str, list[Node]]:
        found: dict[str, list[Node]] = {}
        for node in self:
            for parent in set(node.parents.values()):
                found.setdefault(parent, []).append(node)
        return found


def read_unfinished(store: Path) -> list[Node]:
    """What unfinished stages have written so far; no part of a graph, since it has no digest."""
    nodes = []
    for path in sorted(store.glob(f"partial/*/scratch/{STAGE_FILE}")):
        folder = path.parents[1]
        try:
            begun = json.loads(path.read_bytes())
            files = [file for file in (folder / "out").rglob("*") if file.is_file()]
            nodes.append(
                Node(
                    key=folder.name,
                    format="",
                    component=str(begun["component"]),
                    digest="",
                    code="",
                    configured="",
                    parents=dict(begun.get("parents", {})),
                    files={f.relative_to(folder / "out").as_posix(): 0 for f in files},
                    finished=False,
                )
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # a run has just sealed it, or is making it anew
    return nodes


def _read(store: Path, unreadable: list[str]) -> list[Node]:
    nodes = []
    for folder in sorted((store / "sealed").glob("*/")):
        try:
            nodes.append(_node(folder, json.loads((folder / MANIFEST).read_bytes())))
        except FileNotFoundError:
            if folder.exists():  # else a run replaced it just now
                unreadable.append(folder.name)
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            unreadable.append(folder.name)
    return nodes


def _node(folder: Path, manifest: dict[str, Any]) -> Node:
    artifact = manifest["artifact"]
    lineage = artifact["lineage"]
    return Node(
        key=folder.name,
        format=str(manifest["format"]),
        component=str(lineage["component"]),
        digest=str(artifact["digest"]),
        code=str(lineage["code"]),
        configured=str(lineage["config"]),
        parents={str(role): str(digest) for role, digest in lineage["parents"].items()},
        stats=dict(artifact["stats"]),
        note=str(artifact.get("note", "")),
        config=manifest.get("config") or {},
        files={str(name): int(size) for name, size in manifest["files"].items()},
        made=(folder / MANIFEST).stat().st_mtime,
    )
