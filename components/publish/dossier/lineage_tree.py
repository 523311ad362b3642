"""Lineage of a version as an SVG: a row a step from the sources down, a line an input.

An input that another input was made of has no line of its own (the transitive reduction): a
tokenizer that nearly every stage reads would hide all else. A box's tooltip names all its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape

from markupsafe import Markup

from components.core.store.lineage_graph import ArtifactNode

COLUMN, ROW, BOX_WIDTH, BOX_HEIGHT = 124, 56, 112, 36


def lineage_tree(chain: Sequence[ArtifactNode], called: Callable[[ArtifactNode], str]) -> Markup:
    """Draw a chain of artifacts.

    Args:
        chain: makers before what they made, as ``ArtifactGraph.chain`` gives it.
        called: the name of a stage in the picture.
    """
    by_digest = {node.digest: node for node in chain}
    row: dict[str, int] = {}
    for node in chain:
        parents = [by_digest[d].key for d in node.parents.values() if d in by_digest]
        row[node.key] = max((row[parent] + 1 for parent in parents), default=0)
    place = _columns(chain, row)
    edges = [
        _edge(place[by_digest[parent].key], place[node.key])
        for node, parents in _direct(chain)
        for parent in parents
    ]
    boxes = [_box(node, called(node), _inputs(node), *place[node.key]) for node in chain]
    width = max((x for x, _ in place.values()), default=0) + COLUMN
    height = ROW * (max(row.values(), default=0) + 1)
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg class="tree" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="lineage">{"".join(edges)}{"".join(boxes)}</svg>'
    )


def _direct(chain: Sequence[ArtifactNode]) -> Iterator[tuple[ArtifactNode, list[str]]]:
    """Each node with those of its inputs that none of its other inputs was made of."""
    above: dict[str, set[str]] = {}
    for node in chain:
        parents = {digest for digest in node.parents.values() if digest in above}
        earlier = set[str]().union(*(above[parent] for parent in parents))
        above[node.digest] = earlier | parents
        yield node, sorted(parents - earlier)


def _inputs(node: ArtifactNode) -> str:
    return ", ".join(f"{role} {digest[:12]}" for role, digest in sorted(node.parents.items()))


def _columns(chain: Sequence[ArtifactNode], row: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Key -> (x, y): each row centred, in the order of the chain."""
    members: dict[int, list[str]] = {}
    for node in chain:
        members.setdefault(row[node.key], []).append(node.key)
    widest = max(map(len, members.values()), default=0)
    return {
        key: (int(COLUMN * (index + (widest - len(keys)) / 2)) + 6, ROW * at + 6)
        for at, keys in members.items()
        for index, key in enumerate(keys)
    }


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + BOX_WIDTH // 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX_WIDTH // 2, end[1]
    bend = min((y2 - y1) / 2, ROW)
    return f'<path class="edge" d="M{x1},{y1} C{x1},{y1 + bend} {x2},{y2 - bend} {x2},{y2}"/>'


def _box(node: ArtifactNode, name: str, inputs: str, x: int, y: int) -> str:
    tooltip = f"{node.component} {node.key}" + (f"; from {inputs}" if inputs else "")
    return (
        f"<g><title>{escape(tooltip)}</title>"
        f'<rect class="box" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6"/>'
        f'<text class="stage" x="{x + 9}" y="{y + 15}">{escape(name)}</text>'
        f'<text class="key" x="{x + 9}" y="{y + 29}">{node.digest[:12]}</text></g>'
    )
