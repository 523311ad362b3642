"""A flow's steps: cached, completed, unchanged; retried only where trying again may help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import Field

from components.core.action import Change, Workspace, action
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, TransientError
from components.core.settings import Settings
from components.core.store.artifact import Corpus, Report, Scores
from components.core.store.lineage_graph import ArtifactGraph, read_unfinished
from components.core.store.shards import map_shards, read_shard, shard_name, write_shard
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from flows.cli.views.workspace_view import summarize_workspace
from flows.runner.plan_runner import IS_ACTION, IS_CACHED, RUNS_UNLESS_EQUAL, WOULD_RUN, PlanRunner
from flows.runner.progress_display import result_summary
from flows.runner.run_records import step_json
from flows.runner.runner import EndedEarly, ResultCollector, Runner, StageReached, StoreRunner


class Words(StageConfig):
    text: str = Field(default="one two", description="what to write")


class Threshold(StageConfig):
    at_least: int = Field(default=1, description="words")


def write(config: Words, work: Workdir) -> Corpus:
    (work.folder / "text").write_text(config.text.strip())
    return work.seal(Corpus, stats={"words": float(len(config.text.split()))})


def count(config: Threshold, corpus: Corpus, work: Workdir) -> Report:
    words = len((work.artifact_folder(corpus) / "text").read_text().split())
    (work.folder / "report").write_text(str(words >= config.at_least))
    return work.seal(Report)


@action()
def announce(config: StageConfig, report: Report, workspace: Workspace) -> Change[Report]:
    path = workspace.settings.home / "announced"
    changed = not path.exists() or path.read_text() != report.digest
    path.write_text(report.digest)
    return Change(report, changed, "announced")


def chain(runner: Runner, text: str = "one two", at_least: int = 1) -> Report:
    corpus = runner.source("write", write, Words(text=text), lambda config, earlier: config)
    report = runner.step("count", count, Threshold(at_least=at_least), corpus=corpus)
    return runner.action("announce", announce, StageConfig(), report=report)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def runner(settings: Settings) -> StoreRunner:
    runner = StoreRunner(Store(settings.store), Workspace(settings), listener=ResultCollector())
    runner.backoff_seconds = 0.0
    return runner


def states(runner: StoreRunner) -> dict[str, str]:
    assert isinstance(runner.listener, ResultCollector)
    found = {result.name: result.state for result in runner.listener.results}
    runner.listener.results.clear()
    return found


def test_second_run_is_cached_and_unchanged(runner: StoreRunner) -> None:
    chain(runner)
    assert states(runner) == {"write": "Completed", "count": "Completed", "announce": "Completed"}
    chain(runner)
    assert states(runner) == {"write": "Cached", "count": "Cached", "announce": "Unchanged"}


def test_a_threshold_runs_what_comes_after_it_and_nothing_before(runner: StoreRunner) -> None:
    chain(runner)
    states(runner)
    chain(runner, at_least=5)
    assert states(runner) == {"write": "Cached", "count": "Completed", "announce": "Completed"}


def test_equal_output_leaves_what_follows_cached(runner: StoreRunner) -> None:
    chain(runner)
    states(runner)
    chain(runner, text="one two ")
    assert states(runner) == {"write": "Completed", "count": "Cached", "announce": "Unchanged"}


def test_stages_of_one_function_are_listed_by_their_own_names(runner: StoreRunner) -> None:
    for name in ("quality", "toxicity"):
        runner.step(name, write, Words(text=name))
    listed = summarize_workspace(runner.workspace.settings).value["artifacts"]
    assert {line["stage"] for line in listed} == {"quality", "toxicity"}
    assert {line["component"] for line in listed} == {f"{__name__}.write"}
    graph = ArtifactGraph.read(runner.store.root)
    assert {node.stage for node in graph} == {"quality", "toxicity"}


def test_a_renamed_stage_is_cached(runner: StoreRunner) -> None:
    """The name is for people: it is part of no key."""
    made = runner.step("words", write, Words())
    assert runner.step("text", write, Words()) == made
    assert states(runner) == {"words": "Completed", "text": "Cached"}


def test_an_unfinished_stage_has_its_name(runner: StoreRunner) -> None:
    def fail(config: StageConfig, work: Workdir) -> Report:
        raise DataError("no rows")

    with pytest.raises(DataError):
        runner.step("check", fail, StageConfig())
    assert [node.stage for node in read_unfinished(runner.store.root)] == ["check"]


def test_until_stops_behind_the_stage(runner: StoreRunner) -> None:
    runner.until = "write"
    with pytest.raises(StageReached):
        chain(runner)
    assert states(runner) == {"write": "Completed"}


def test_an_action_can_end_the_run(runner: StoreRunner) -> None:
    @action()
    def enough(config: StageConfig, workspace: Workspace) -> Change[Report]:
        report = Report(name="r", digest="d", lineage=workspace.action_lineage(enough, {}))
        return Change(report, False, "nothing new", ends="unchanged: nothing new")

    with pytest.raises(EndedEarly, match="unchanged: nothing new"):
        runner.action("enough", enough, StageConfig())
    assert states(runner) == {"enough": "Unchanged"}


@pytest.mark.parametrize(("error", "tries"), [(TransientError, 3), (DataError, 1)])
def test_only_transient_errors_are_tried_again(
    runner: StoreRunner, error: type[Exception], tries: int
) -> None:
    seen: list[int] = []

    def fail(config: StageConfig, work: Workdir) -> Report:
        seen.append(1)
        raise error("the world said no")

    with pytest.raises(error):
        runner.step("fail", fail, StageConfig())
    assert len(seen) == tries
    assert isinstance(runner.listener, ResultCollector)
    assert [name for name, _ in runner.listener.failures] == ["fail"]


def planned(settings: Settings, **changes: Any) -> dict[str, tuple[str, list[str]]]:
    runner = PlanRunner(Store(settings.store))
    chain(runner, **changes)
    return {step.name: (step.state, step.explanations) for step in runner.steps}


def test_plan_before_the_first_run(settings: Settings) -> None:
    assert planned(settings) == {
        "write": (WOULD_RUN, ["never ran"]),
        "count": (WOULD_RUN, ["never ran"]),
        "announce": (IS_ACTION, ["input report from count"]),
    }
    assert not (settings.store / "sealed").exists()


def test_plan_names_what_changed(settings: Settings, runner: StoreRunner) -> None:
    chain(runner)
    assert planned(settings)["count"] == (IS_CACHED, [])
    plan = planned(settings, at_least=5)
    assert plan["write"] == (IS_CACHED, [])
    assert plan["count"] == (WOULD_RUN, ["at_least: 1 -> 5"])
    plan = planned(settings, text="three")
    assert plan["write"] == (WOULD_RUN, ["text: 'one two' -> 'three'"])
    assert plan["count"] == (RUNS_UNLESS_EQUAL, ["input corpus from write"])


def words_of(table: pa.Table) -> pa.Table:
    return table.select(["id"])


def count_shards(config: StageConfig, corpus: Corpus, work: Workdir) -> Scores:
    map_shards(work, work.artifact_folder(corpus), words_of)
    return work.seal(Scores, stats={"rows": 3.0})


def test_a_stage_that_goes_on_says_from_where(
    settings: Settings, runner: StoreRunner, corpus_of: Callable[..., Corpus]
) -> None:
    corpus = corpus_of(["one", "two", "three"], shards=3)
    request = runner.store.make_request(count_shards, StageConfig(), {"corpus": corpus})
    earlier = runner.store.open_workdir(request)  # as a killed run leaves it: one shard is there
    first = read_shard(settings.store / corpus.name / shard_name(0))
    write_shard(earlier.folder / shard_name(0), words_of(first))
    for _ in range(2):
        runner.step("count", count_shards, StageConfig(), corpus=corpus)
    assert isinstance(runner.listener, ResultCollector)
    resumed, cached = runner.listener.results
    assert resumed.resumed == "after 1 of 3 shards"
    assert result_summary(resumed) == "rows 3; resumed after 1 of 3 shards"
    told = step_json(resumed)
    assert (told["note"], told["resumed"]) == (
        "resumed after 1 of 3 shards",
        "after 1 of 3 shards",
    )
    assert (cached.state, cached.resumed, result_summary(cached)) == ("Cached", "", "rows 3")
