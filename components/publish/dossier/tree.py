"""The lineage of a version as a picture: a column a step from the sources, an arrow an input."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from components.core.graph import Node

COLUMN, ROW, BOX_WIDTH, BOX_HEIGHT = 168, 46, 138, 32


def lineage_tree(chain: Sequence[Node]) -> Markup:
    """``chain`` holds makers before what they made, as ``ArtifactGraph.chain`` gives it."""
    by_digest = {node.digest: node for node in chain}
    column: dict[str, int] = {}
    for node in chain:
        parents = [by_digest[d].key for d in node.parents.values() if d in by_digest]
        column[node.key] = max((column[parent] + 1 for parent in parents), default=0)
    place = _rows(chain, column)
    edges = [
        _edge(place[by_digest[parent].key], place[node.key])
        for node in chain
        for parent in sorted(set(node.parents.values()))
        if parent in by_digest
    ]
    boxes = [_box(node, *place[node.key]) for node in chain]
    width = COLUMN * (max(column.values(), default=0) + 1)
    height = max((y for _, y in place.values()), default=0) + ROW
    return Markup(  # noqa: S704 - every text in it went through escape
        f'<svg class="tree" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="lineage">{"".join(edges)}{"".join(boxes)}</svg>'
    )


def _rows(chain: Sequence[Node], column: dict[str, int]) -> dict[str, tuple[int, int]]:
    """Key -> (x, y): each column centred, in the order of the chain."""
    members: dict[int, list[str]] = {}
    for node in chain:
        members.setdefault(column[node.key], []).append(node.key)
    tallest = max(map(len, members.values()), default=0)
    return {
        key: (COLUMN * at + 4, int(ROW * (index + (tallest - len(keys)) / 2)) + 6)
        for at, keys in members.items()
        for index, key in enumerate(keys)
    }


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + BOX_WIDTH, start[1] + BOX_HEIGHT // 2
    x2, y2 = end[0], end[1] + BOX_HEIGHT // 2
    bend = (x2 - x1) / 2
    return f'<path class="edge" d="M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"/>'


def _box(node: Node, x: int, y: int) -> str:
    return (
        f"<g><title>{escape(node.component)} {node.key}</title>"
        f'<rect class="box" x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="5"/>'
        f'<text class="stage" x="{x + 8}" y="{y + 14}">{escape(node.stage)}</text>'
        f'<text class="key" x="{x + 8}" y="{y + 27}">{node.digest[:12]}</text></g>'
    )
