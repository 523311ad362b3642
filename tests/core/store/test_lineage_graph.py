"""The graph of a store: chains upward, what is reached downward, and what a holder taints."""

from __future__ import annotations

from pathlib import Path

from components.core.store.artifact import Corpus
from components.core.store.lineage_graph import ArtifactGraph, ArtifactNode
from components.core.store.workdir import Workdir


def node(key: str, digest: str = "", format: str = "report/1", **parents: str) -> ArtifactNode:
    component = f"components.x.{key}"
    return ArtifactNode(key, format, component, digest or key, "", "", parents, stage=key)


def keys(nodes: list[ArtifactNode]) -> list[str]:
    return [one.key for one in nodes]


CHAIN = ArtifactGraph(
    [
        node("crawl"),
        node("raw", pages="crawl"),
        node("kept", corpus="raw"),
        node("tokens", corpus="kept", tokenizer="tokenizer"),
        node("tokenizer", corpus="kept"),
        node("model", tokens="tokens"),
        node("beside", pages="another"),
    ]
)


def test_a_chain_has_makers_first_and_names_what_is_gone() -> None:
    chain = CHAIN.provenance_chain(["model"])
    assert keys(chain) == ["crawl", "raw", "kept", "tokenizer", "tokens", "model"]
    assert CHAIN.missing_parents(chain) == {}
    assert CHAIN.missing_parents(CHAIN.provenance_chain(["beside"])) == {
        "another": ["beside.pages"]
    }
    assert CHAIN.provenance_chain(["nowhere"]) == []


def test_a_copy_from_a_file_does_not_cut_a_chain() -> None:
    copied = ArtifactGraph([*CHAIN.nodes.values(), node("a-copy", digest="kept")])
    assert keys(copied.provenance_chain(["model"])) == keys(CHAIN.provenance_chain(["model"]))


def test_reached_goes_on_where_it_may() -> None:
    start = [CHAIN.nodes["kept"]]
    assert set(keys(CHAIN.downstream_nodes(start))) == {"kept", "tokens", "tokenizer", "model"}
    short = CHAIN.downstream_nodes(start, lambda one: one.key != "tokens")
    assert set(keys(short)) == {"kept", "tokenizer"}


def test_taint_stops_at_what_was_looked_into() -> None:
    held = [CHAIN.nodes["crawl"], CHAIN.nodes["raw"]]  # select dropped the page
    tainted = CHAIN.tainted_nodes(held, lambda one: one.key in ("crawl", "raw", "kept"))
    assert set(keys(tainted)) == {"crawl", "raw"}
    everything = CHAIN.tainted_nodes(held, lambda one: one.key in ("crawl", "raw"))
    assert set(keys(everything)) == set(CHAIN.nodes) - {"beside"}


def test_the_same_bytes_made_cleanly_are_clean_and_clear_what_follows() -> None:
    graph = ArtifactGraph(
        [
            node("bad"),
            node("good"),
            node("tokenizer-bad", "t", corpus="bad"),
            node("tokenizer-good", "t", corpus="good"),
            node("tokens-bad", corpus="bad", tokenizer="t"),
            node("tokens-good", corpus="good", tokenizer="t"),
        ]
    )
    tainted = graph.tainted_nodes([graph.nodes["bad"]])
    assert set(keys(tainted)) == {"bad", "tokens-bad"}


def test_content_that_names_itself_as_parent_is_no_endless_loop() -> None:
    graph = ArtifactGraph([node("a", "same", x="same"), node("b", x="same")])
    assert keys(graph.tainted_nodes([])) == ["a", "b"]  # it came from nowhere known: not cleared


def test_read_from_manifests(tmp_path: Path) -> None:
    work = Workdir.temporary(tmp_path / "store", "components.x.make")
    (work.folder / "file").write_text("x")
    made = work.seal(Corpus, {"words": 1})
    (tmp_path / "store" / "sealed" / "half").mkdir()
    (tmp_path / "store" / "sealed" / "half" / "artifact.json").write_text("{")
    graph = ArtifactGraph.read(tmp_path / "store")
    (found,) = graph
    assert (found.digest, found.name, found.stage) == (made.digest, made.name, "make")
    assert (found.format, found.bytes, found.stats["words"]) == ("corpus/1", 1, 1)
