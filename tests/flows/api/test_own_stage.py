"""Stages of the caller's own in the store: cached, resumed, given inputs of all forms."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError
from components.core.settings import Settings
from components.core.stats.figures import exact_figure
from components.core.stats.report_config import ReportConfig
from components.core.store.artifact import Artifact, Corpus, Report, Scores
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.publish.promotion.promote import promote
from components.tokenize.train_tokenizer import train_tokenizer
from flows.api.own_stage import StageCall, run_own_stage
from flows.api.stored_artifact import StoredArtifact, find_artifact

CALLS: list[str] = []


class WordsConfig(ReportConfig):
    """Words that are counted."""

    figures = ("words",)
    at_least: int = Field(default=1, ge=1, description="shortest document counted, in words")


def count_words(config: WordsConfig, corpus: Corpus, work: Workdir) -> Report:
    """Words of all documents that are long enough."""
    note_call("count_words")
    texts = read_shards(work.artifact_folder(corpus), ["text"])["text"].to_pylist()
    counts = [len(text.split()) for text in texts]
    total = sum(count for count in counts if count >= config.at_least)
    config.write_report(work.folder, [exact_figure("words", total)])
    return work.seal(Report, stats={"words": total})


def note_call(name: str) -> None:
    """Note that a stage ran, outside of what its key holds."""
    os.environ["OWN_STAGE_CALLS"] = os.environ.get("OWN_STAGE_CALLS", "") + name + " "


def length_shard(table: pa.Table) -> pa.Table:
    """Characters of each document, and the process that counted them."""
    lengths = [len(text) for text in table["text"].to_pylist()]
    whole, process = pa.int64(), [os.getpid()] * len(table)
    columns = [table["id"], pa.array(lengths, whole), pa.array(process, whole)]
    return pa.table(columns, names=["id", "length", "process"])


def score_length(config: StageConfig, corpus: Corpus, work: Workdir) -> Scores:
    """Characters of every document."""
    map_shards(work, work.artifact_folder(corpus), length_shard)
    return work.seal(Scores)


def sum_reports(config: StageConfig, reports: Mapping[str, Report], work: Workdir) -> Report:
    """Sum of all words."""
    total = sum(report.stats["words"] for report in reports.values())
    (work.folder / "report.json").write_text(f'{{"total": {total}, "figures": []}}')
    return work.seal(Report, stats={"words": total})


def forget_to_seal(config: StageConfig, work: Workdir) -> Report:
    """A stage with a mistake."""
    return None  # type: ignore[return-value]


def take_anything(config: StageConfig, text: str, work: Workdir) -> Report:
    """A stage with an input that is no artifact."""
    return work.seal(Report)


def return_none(table: pa.Table) -> pa.Table:
    """A shard's function with a mistake."""
    return None


def score_none(config: StageConfig, corpus: Corpus, work: Workdir) -> Scores:
    """A stage whose shards come to nothing."""
    map_shards(work, work.artifact_folder(corpus), return_none)
    return work.seal(Scores)


def write_nothing(config: StageConfig, work: Workdir) -> Report:
    """A stage that seals no report."""
    return work.seal(Report)


def seal_scores(config: StageConfig, work: Workdir) -> Report:
    """A stage that seals another kind than it promises."""
    return work.seal(Scores)  # type: ignore[return-value]


def seal_any(config: StageConfig, work: Workdir) -> Artifact:
    """A stage that promises no kind."""
    return work.seal(Report)


def make_nothing(config: StageConfig, work: Workdir) -> None:
    """A stage without a result."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("OWN_STAGE_CALLS", "")
    return Settings(home=tmp_path, reference_data=tmp_path)


@pytest.fixture
def corpus(corpus_of: Callable[..., Corpus]) -> Corpus:
    return corpus_of(["one two three", "four", "five six"])


def run(here: Settings, function: Any, config: Any = None, **inputs: Any) -> StoredArtifact:
    return run_own_stage(here, StageCall(function, config, inputs))


def test_a_stage_is_cached_by_code_config_and_inputs(
    here: Settings, corpus: Corpus, corpus_of: Callable[..., Corpus]
) -> None:
    first = run(here, count_words, corpus=corpus)
    assert first.stats["words"] == 6
    assert first.figures["words"].value == 6
    assert run(here, count_words, {"at_least": 1}, corpus=corpus) == first
    assert run(here, count_words, WordsConfig(at_least=2), corpus=corpus).stats["words"] == 5
    assert run(here, count_words, corpus=corpus_of(["seven"])).stats["words"] == 1
    assert os.environ["OWN_STAGE_CALLS"].split() == ["count_words"] * 3


def test_inputs_of_all_forms_are_one_input(here: Settings, corpus: Corpus, tmp_path: Path) -> None:
    stored = StoredArtifact(corpus, here.store)
    outside = tmp_path / "outside"
    outside.mkdir()
    for shard in stored.folder.glob("*.parquet"):
        (outside / shard.name).write_bytes(shard.read_bytes())
    forms = [corpus, stored, corpus.digest[:12], corpus.name, stored.folder, outside]
    made = [run(here, count_words, corpus=form) for form in forms]
    assert {artifact.digest for artifact in made} == {made[0].digest}
    assert os.environ["OWN_STAGE_CALLS"].split() == ["count_words"]


def test_shards_are_mapped_in_worker_processes(here: Settings, corpus: Corpus) -> None:
    scores = run(here, score_length, corpus=corpus)
    rows = read_shards(scores.folder).to_pylist()
    assert sorted(row["length"] for row in rows) == [4, 8, 13]
    assert os.getpid() not in {row["process"] for row in rows}


def test_a_mapping_is_one_role_of_several(here: Settings, corpus: Corpus) -> None:
    one = run(here, count_words, corpus=corpus)
    both = run(here, sum_reports, reports={"a": one, "b": one.digest})
    assert both.stats["words"] == 12
    assert [node.stage for node in both.lineage][-2:] == ["count_words", "sum_reports"]
    assert both.reference.lineage.parents.keys() == {"reports.a", "reports.b"}


def test_a_stage_of_the_house_runs_alike(here: Settings, corpus_of: Callable[..., Corpus]) -> None:
    texts = [f"Page {n}: the word {n} stands between other words." for n in range(200)]
    made = run(here, train_tokenizer, {"vocabulary": 280}, corpus=corpus_of(texts))
    assert (made.kind, made.stats["vocabulary"]) == ("tokenizer/1", 280)
    assert made.reference.lineage.component == "components.tokenize.train_tokenizer.train_tokenizer"


def test_a_stage_runs_beside_an_event_loop(here: Settings, corpus: Corpus) -> None:
    async def notebook() -> StoredArtifact:
        return run(here, count_words, corpus=corpus)

    assert asyncio.run(notebook()).stats["words"] == 6


def test_an_artifact_is_found_by_the_beginning_of_its_name(here: Settings, corpus: Corpus) -> None:
    made = run(here, count_words, corpus=corpus)
    key = Path(made.name).name
    for name in (made.name, key, key[:6], made.digest[:8]):
        assert find_artifact(here, name) == made
    for name in ("", "abc", "0" * 12, "sealed/"):
        with pytest.raises(ConfigError, match="no artifact matches; `modelmill show` lists"):
            find_artifact(here, name)


@pytest.mark.parametrize(
    ("function", "config", "inputs", "words"),
    [
        (lambda config: config, None, {}, "is no function with a name"),
        (promote, None, {}, "promote: is an action, which changes more than the store"),
        (note_call, None, {}, "note_call: a stage takes `config` (a StageConfig), its inputs and"),
        (make_nothing, None, {}, "make_nothing: its return is not annotated as a kind of Artifact"),
        (take_anything, None, {}, "take_anything: text is not annotated as a kind of Artifact"),
        (forget_to_seal, None, {}, "forget_to_seal: returned NoneType: return what work.seal(KIND)"),
        (write_nothing, None, {}, "write_nothing: seals Report, and work.folder holds no report.json"),
        (seal_scores, None, {}, "seal_scores: seals Scores, and its return is annotated as Report"),
        (seal_any, None, {}, "seal_any: its return is annotated as Artifact: name its kind"),
        (count_words, None, {"corpus": {"a": "x"}}, "corpus takes one artifact, and was given a"),
        (sum_reports, None, {"reports": "x"}, "reports takes several: give a mapping, reports={NAME"),
        (sum_reports, None, {"reports": {1: "x"}}, "reports: the names of its artifacts must be"),
        (count_words, {"at_least": 0}, {}, "at_least: given 0: must be at least 1"),
        (count_words, {"at_most": 1}, {}, "at_most: unknown field"),
        (count_words, StageConfig(), {}, "config: given StageConfig: must be a WordsConfig"),
        (count_words, None, {}, "count_words: corpus missing; it takes corpus"),
        (count_words, None, {"corpora": "x"}, "count_words: has no input corpora; it takes corpus"),
        (count_words, None, {"corpus": "ffffffff"}, "ffffffff: no artifact matches"),
        (count_words, None, {"corpus": Path("/absent")}, "corpus: /absent does not exist"),
        (count_words, None, {"corpus": Path(__file__).parent}, "holds no 00000.parquet"),
        (count_words, None, {"corpus": 7}, "corpus must be of kind corpus/1, and is int"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_before_anything_is_written(
    function: Any, config: Any, inputs: Any, words: str, here: Settings
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(here, function, config, **inputs)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(here.home.glob("store/sealed/*"))


def test_a_shard_that_comes_to_nothing_is_one_line(here: Settings, corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=r"return_none returned NoneType: return a pyarrow.Table"):
        run(here, score_none, corpus=corpus)


def test_an_artifact_of_another_workspace_is_refused(here: Settings, corpus: Corpus) -> None:
    other = Settings(home=here.home / "other", reference_data=here.home)
    with pytest.raises(ConfigError, match=r"corpus: partial|corpus: sealed.* is not in .*other"):
        run(other, count_words, corpus=corpus)


def test_artifacts_know_their_kind(here: Settings, corpus: Corpus) -> None:
    stored = StoredArtifact(corpus, here.store)
    assert (stored.kind, stored.digest) == ("corpus/1", corpus.digest)
    missing: Artifact = corpus.model_copy(update={"name": "models:/nano/1"})
    with pytest.raises(ConfigError, match="models:/nano/1: no folder of the store holds it"):
        _ = StoredArtifact(missing, here.store).folder
