"""A flow's steps: cached, completed, unchanged; retried only where trying again may help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import Field

from components.core.action import Change, Workspace
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, TransientError
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Report, Scores
from components.core.store.shards import map_shards, read_shard, shard_name, write_shard
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.runner.plan_runner import ACTION, CACHED, RUNS, WAITS, PlanMill
from flows.runner.progress_display import outcome
from flows.runner.run_records import step_json
from flows.runner.runner import Ended, Mill, Reached, Silent, StoreMill


class Words(StageConfig):
    text: str = Field(default="one two", description="what to write")


class Threshold(StageConfig):
    at_least: int = Field(default=1, description="words")


def write(config: Words, work: Workdir) -> Corpus:
    (work.folder / "text").write_text(config.text.strip())
    return work.seal(Corpus, stats={"words": float(len(config.text.split()))})


def count(config: Threshold, corpus: Corpus, work: Workdir) -> Report:
    words = len((work.path(corpus) / "text").read_text().split())
    (work.folder / "report").write_text(str(words >= config.at_least))
    return work.seal(Report)


def announce(config: StageConfig, report: Report, workspace: Workspace) -> Change[Report]:
    path = workspace.settings.home / "announced"
    changed = not path.exists() or path.read_text() != report.digest
    path.write_text(report.digest)
    return Change(report, changed, "announced")


def chain(mill: Mill, text: str = "one two", at_least: int = 1) -> Report:
    corpus = mill.source("write", write, Words(text=text), lambda config, earlier: config)
    report = mill.step("count", count, Threshold(at_least=at_least), corpus=corpus)
    return mill.act("announce", announce, StageConfig(), report=report)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def mill(settings: Settings) -> StoreMill:
    mill = StoreMill(Store(settings.store), Workspace(settings), listener=Silent())
    mill.backoff_seconds = 0.0
    return mill


def states(mill: StoreMill) -> dict[str, str]:
    assert isinstance(mill.listener, Silent)
    found = {result.name: result.state for result in mill.listener.results}
    mill.listener.results.clear()
    return found


def test_second_run_is_cached_and_unchanged(mill: StoreMill) -> None:
    chain(mill)
    assert states(mill) == {"write": "Completed", "count": "Completed", "announce": "Completed"}
    chain(mill)
    assert states(mill) == {"write": "Cached", "count": "Cached", "announce": "Unchanged"}


def test_a_threshold_runs_what_comes_after_it_and_nothing_before(mill: StoreMill) -> None:
    chain(mill)
    states(mill)
    chain(mill, at_least=5)
    assert states(mill) == {"write": "Cached", "count": "Completed", "announce": "Completed"}


def test_equal_output_leaves_what_follows_cached(mill: StoreMill) -> None:
    chain(mill)
    states(mill)
    chain(mill, text="one two ")
    assert states(mill) == {"write": "Completed", "count": "Cached", "announce": "Unchanged"}


def test_until_stops_behind_the_stage(mill: StoreMill) -> None:
    mill.until = "write"
    with pytest.raises(Reached):
        chain(mill)
    assert states(mill) == {"write": "Completed"}


def test_an_action_can_end_the_run(mill: StoreMill) -> None:
    def enough(config: StageConfig, workspace: Workspace) -> Change[Report]:
        report = Report(name="r", digest="d", lineage=workspace.lineage("enough", {}))
        return Change(report, False, "nothing new", ends="unchanged: nothing new")

    with pytest.raises(Ended, match="unchanged: nothing new"):
        mill.act("enough", enough, StageConfig())
    assert states(mill) == {"enough": "Unchanged"}


@pytest.mark.parametrize(("error", "tries"), [(TransientError, 3), (DataError, 1)])
def test_only_transient_errors_are_tried_again(
    mill: StoreMill, error: type[Exception], tries: int
) -> None:
    seen: list[int] = []

    def fail(config: StageConfig, work: Workdir) -> Report:
        seen.append(1)
        raise error("the world said no")

    with pytest.raises(error):
        mill.step("fail", fail, StageConfig())
    assert len(seen) == tries
    assert isinstance(mill.listener, Silent)
    assert [name for name, _ in mill.listener.failures] == ["fail"]


def planned(settings: Settings, **changes: Any) -> dict[str, tuple[str, list[str]]]:
    mill = PlanMill(Store(settings.store))
    chain(mill, **changes)
    return {step.name: (step.state, step.because) for step in mill.steps}


def test_plan_before_the_first_run(settings: Settings) -> None:
    assert planned(settings) == {
        "write": (RUNS, ["never ran"]),
        "count": (RUNS, ["never ran"]),
        "announce": (ACTION, ["input report from count"]),
    }
    assert not (settings.store / "sealed").exists()


def test_plan_names_what_changed(settings: Settings, mill: StoreMill) -> None:
    chain(mill)
    assert planned(settings)["count"] == (CACHED, [])
    plan = planned(settings, at_least=5)
    assert plan["write"] == (CACHED, [])
    assert plan["count"] == (RUNS, ["at_least: 1 -> 5"])
    plan = planned(settings, text="three")
    assert plan["write"] == (RUNS, ["text: 'one two' -> 'three'"])
    assert plan["count"] == (WAITS, ["input corpus from write"])


def words_of(table: pa.Table) -> pa.Table:
    return table.select(["id"])


def count_shards(config: StageConfig, corpus: Corpus, work: Workdir) -> Scores:
    map_shards(work, work.path(corpus), words_of)
    return work.seal(Scores, stats={"rows": 3.0})


def test_a_stage_that_goes_on_says_from_where(
    settings: Settings, mill: StoreMill, corpus_of: Callable[..., Corpus]
) -> None:
    corpus = corpus_of(["one", "two", "three"], shards=3)
    request = mill.store.request(count_shards, StageConfig(), {"corpus": corpus})
    earlier = mill.store.open(request)  # as a killed run leaves it: one shard is there
    first = read_shard(settings.store / corpus.name / shard_name(0))
    write_shard(earlier.folder / shard_name(0), words_of(first))
    for _ in range(2):
        mill.step("count", count_shards, StageConfig(), corpus=corpus)
    assert isinstance(mill.listener, Silent)
    resumed, cached = mill.listener.results
    assert resumed.resumed == "after 1 of 3 shards"
    assert outcome(resumed) == "rows 3; resumed after 1 of 3 shards"
    told = step_json(resumed)
    assert (told["note"], told["resumed"]) == (
        "resumed after 1 of 3 shards",
        "after 1 of 3 shards",
    )
    assert (cached.state, cached.resumed, outcome(cached)) == ("Cached", "", "rows 3")
