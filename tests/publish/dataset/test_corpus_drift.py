"""The change check: two corpora by the ids of their documents, and a run that ends on it."""

from __future__ import annotations

import pyarrow as pa
import pytest

from components.core.action import Change
from components.core.io.trash import delete_path
from components.core.store.artifact import Corpus, Dataset, Report
from components.core.store.document_rows import document_id, shard_of
from components.core.store.shards import shard_name, write_shard
from components.core.store.workdir import Workdir
from components.publish.dataset.corpus_drift import ChangeConfig, measure_change
from components.publish.dataset.push_dataset import push_dataset
from components.publish.registry.register import RegisterConfig, register
from tests.publish.conftest import Bench


def corpus(bench: Bench, texts: list[str], shards: int = 2) -> Corpus:
    """A sealed corpus of ids alone, in the bench's store."""
    work = Workdir.temporary(bench.settings.store, "components.clean.select.select")
    ids = sorted(document_id(f"https://docs.example/{text[:1]}", text) for text in texts)
    for number in range(shards):
        mine = [identifier for identifier in ids if shard_of(identifier, shards) == number]
        table = pa.table({"id": pa.array(mine, pa.string())})
        write_shard(work.folder / shard_name(number), table)
    return work.seal(Corpus, {"kept": float(len(ids))})


def registered(bench: Bench, name: str, trained_on: Corpus) -> None:
    dataset = Dataset(
        name="corpus-x",
        digest=trained_on.digest,
        lineage=bench.workspace.action_lineage(push_dataset, {}),
    )
    register(
        RegisterConfig(name=name),
        bundle=bench.bundle(f"{name}{trained_on.digest}"),
        model=bench.model(),
        dataset=dataset,
        reports={},
        workspace=bench.workspace,
    )


def measure(bench: Bench, corpus: Corpus, name: str, least: float = 0.0) -> Change[Report]:
    config = ChangeConfig(model=name, least_change=least)
    return measure_change(config, corpus=corpus, workspace=bench.workspace)


def test_without_a_version_the_run_goes_on(bench: Bench) -> None:
    change = measure(bench, corpus(bench, ["a", "b"]), "nobody", least=1.0)
    assert (change.changed, change.ends) == (True, "")
    assert change.note == "no version to compare with"


def test_an_edited_page_counts_as_one_gone_and_one_new(bench: Bench) -> None:
    registered(bench, "edited", corpus(bench, ["a", "b", "c", "d"]))
    change = measure(bench, corpus(bench, ["a", "b", "c", "d edited"]), "edited")
    stats = change.artifact.stats
    assert (stats["added"], stats["removed"], stats["common"]) == (1, 1, 3)
    assert stats["changed_share"] == pytest.approx(2 / 5)
    assert change.note == "40 % of documents changed since version 1"


@pytest.mark.parametrize(
    ("least", "ends"),
    [
        (0.0, ""),
        (0.4, ""),
        (0.41, "unchanged: 40 % of documents changed, less than 41 %"),
    ],
)
def test_a_run_ends_below_the_share_and_not_at_it(bench: Bench, least: float, ends: str) -> None:
    name = f"bound-{int(100 * least)}"
    registered(bench, name, corpus(bench, ["a", "b", "c", "d"]))
    assert measure(bench, corpus(bench, ["a", "b", "c", "e"]), name, least).ends == ends


def test_equal_corpora_are_unchanged_and_the_default_never_ends_a_run(bench: Bench) -> None:
    registered(bench, "equal", corpus(bench, ["a", "b"]))
    change = measure(bench, corpus(bench, ["b", "a"]), "equal")
    assert (change.changed, change.ends) == (False, "")
    assert measure(bench, corpus(bench, ["a", "b"]), "equal", 0.001).ends.startswith(
        "unchanged: 0 %"
    )


def test_shards_of_another_number_compare_by_id(bench: Bench) -> None:
    registered(bench, "sharded", corpus(bench, ["a", "b", "c"], shards=2))
    change = measure(bench, corpus(bench, ["a", "b", "c"], shards=3), "sharded")
    assert change.artifact.stats["changed_share"] == 0


def test_small_changes_add_up_until_a_version_is_registered(bench: Bench) -> None:
    """The comparison is with what a version was trained on, not with the night before."""
    texts = [f"{n}" for n in range(100)]
    registered(bench, "drift", corpus(bench, texts))
    nights = [measure(bench, corpus(bench, texts[n:]), "drift", 0.025) for n in (1, 2, 3)]
    assert [bool(night.ends) for night in nights] == [True, True, False]


def test_a_corpus_that_is_gone_counts_as_changed(bench: Bench) -> None:
    former = corpus(bench, ["x only here", "y only here"])
    registered(bench, "gone", former)
    delete_path(bench.workspace.artifact_folder(former))
    change = measure(bench, corpus(bench, ["a", "c"]), "gone", least=1.0)
    assert (change.changed, change.ends) == (True, "")
    assert "not in the store" in change.note
