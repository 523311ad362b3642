"""What the roots reach stays: along digests, whatever the keys."""

from __future__ import annotations

from pathlib import Path

import pytest

from components.core.store.gc_roots import GcRoot, find_reachable
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from tests.workspace import Hand


def node(key: str, digest: str, **parents: str) -> ArtifactNode:
    return ArtifactNode(key, "corpus/1", "tests.made", digest, "", "", parents)


GRAPH = ArtifactGraph(
    [
        node("pages", "P"),
        node("corpus", "C", pages="P"),
        node("again", "C", pages="Q"),
        node("other pages", "Q"),
        node("model", "M", corpus="C"),
        node("stray", "S", corpus="C"),
    ]
)


def test_reaches_every_key_that_a_lineage_may_mean() -> None:
    """Two keys hold the corpus's content; nobody knows which of them the model came from."""
    kept = find_reachable(GRAPH, [GcRoot("champion", digests=frozenset({"M"}))])
    assert set(kept) == {"model", "corpus", "again", "pages", "other pages"}
    assert set(kept.values()) == {"champion"}


def test_the_first_root_names_the_reason() -> None:
    roots = [GcRoot("run", keys=frozenset({"corpus"})), GcRoot("young", keys=frozenset({"stray"}))]
    kept = find_reachable(GRAPH, roots)
    assert kept == {"corpus": "run", "pages": "run", "stray": "young", "again": "young",
                    "other pages": "young"}  # fmt: skip


def test_what_is_not_there_is_not_reached() -> None:
    gone = GcRoot("x", keys=frozenset({"nobody"}), digests=frozenset({"N"}))
    assert find_reachable(GRAPH, [gone]) == {}


def test_a_store_is_read_and_its_damage_named(tmp_path: Path) -> None:
    hand = Hand(tmp_path)
    pages = hand.seal("pages")
    corpus = hand.seal("corpus", {"pages": pages})
    graph = ArtifactGraph.read(hand.store)
    assert graph.unreadable == ()
    assert graph.upstream_keys([hand.key(corpus)]) == {hand.key(corpus), hand.key(pages)}
    manifest = hand.store / pages.name / "artifact.json"
    manifest.chmod(0o644)
    manifest.write_text(manifest.read_text()[:40])
    assert ArtifactGraph.read(hand.store).unreadable == (hand.key(pages),)


@pytest.mark.parametrize("content", ["[]", "{}", '{"artifact": 3}', "null"])
def test_nonsense_for_a_manifest_is_damage(tmp_path: Path, content: str) -> None:
    folder = tmp_path / "sealed" / "key"
    folder.mkdir(parents=True)
    (folder / "artifact.json").write_text(content)
    assert ArtifactGraph.read(tmp_path).unreadable == ("key",)
