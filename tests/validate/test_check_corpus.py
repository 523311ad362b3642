"""A corpus that fails stops with one line; one that passes leaves its figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.core.errors import ConfigError, GateFailed
from components.core.stats.figures import read_report, read_report_content
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shard, shard_paths, write_shard
from components.core.store.workdir import Workdir
from components.validate.check_corpus import check_corpus
from components.validate.document_frame import frame_of_shard
from components.validate.suite_config import Expectation, SuiteConfig, load_suite

DEFAULT_SUITE = Path(__file__).parents[2] / "data" / "expectations" / "corpus.yaml"
PAGES = [f"# Page {n}\n\n" + f"These are the words of page {n}. " * 20 for n in range(8)]


def expecting(kind: str, **kwargs: Any) -> SuiteConfig:
    return SuiteConfig(expectations=(Expectation(type=kind, kwargs=kwargs, why="it matters"),))


def test_the_house_suite_passes_a_sound_corpus(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus, suite = corpus_of(PAGES), load_suite(DEFAULT_SUITE)
    made = [check_corpus(suite, corpus, again()) for _ in range(2)]
    assert made[0].digest == made[1].digest
    folder = again().artifact_folder(made[0])
    figures = read_report(folder)
    assert len(figures) == len(suite.expectations) + 2
    assert figures["documents"].value == 8
    assert figures["characters"].value == sum(map(len, PAGES))
    assert figures["table_row_count_to_be_between.table"].value == 8
    unique = figures["column_values_to_be_unique.id"]
    assert (unique.value, unique.n) == (1.0, 8)
    assert unique.low < 1
    assert figures["column_mean_to_be_between.words"].value == pytest.approx(143)
    assert read_report_content(folder)["documents"] == 8


@pytest.mark.parametrize(
    ("suite", "says"),
    [
        (
            expecting("expect_table_row_count_to_be_between", min_value=100),
            r"^check: 8 pages are left, at least 100 are needed \[it matters\]: give more pages under "
            r"scrape, or change expect_table_row_count_to_be_between in check\.expectations",
        ),
        (
            expecting("expect_column_mean_to_be_between", column="words", max_value=9),
            r"the mean of `words` over all pages is 143, must be at most 9; "
            r"e\.g\. https://docs\.example/000\d, https://docs\.example/000\d, \S+ \[it matters\]",
        ),
        (
            expecting("expect_column_values_to_be_between", column="words", max_value=120),
            r"\d of 8 pages \(\S+ %\) have `words` that is not at most 120, none may; e\.g\. ",
        ),
        (
            expecting("expect_column_values_to_not_match_regex", column="url", regex="000[34]$"),
            r"2 of 8 pages \(25 %\) fail.*e\.g\. https://docs\.example/0003, \S+/0004 \[",
        ),
    ],
)
def test_a_failing_corpus_is_one_line_and_nothing_sealed(
    corpus_of: Callable[..., Corpus], work: Workdir, suite: SuiteConfig, says: str
) -> None:
    with pytest.raises(GateFailed, match=says) as failure:
        check_corpus(suite, corpus_of(PAGES), work)
    assert "\n" not in str(failure.value)
    assert not (work.root / "sealed" / work.key).exists()


def test_the_first_of_several_failures_is_told(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    suite = SuiteConfig(
        expectations=(
            *expecting("expect_column_max_to_be_between", column="words", max_value=1).expectations,
            *expecting(
                "expect_column_min_to_be_between", column="words", min_value=999
            ).expectations,
        )
    )
    with pytest.raises(GateFailed, match=r"the greatest of `words` .* \(and 1 more\)$"):
        check_corpus(suite, corpus_of(PAGES), work)


def test_suites_that_cannot_be_run(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    corpus = corpus_of(PAGES)
    with pytest.raises(ConfigError, match="there is no expectation expect_wonders"):
        check_corpus(expecting("expect_wonders"), corpus, again())
    wrong = expecting("expect_column_mean_to_be_between", column="words", maximum=3)
    with pytest.raises(ConfigError, match="check: not a suite"):
        check_corpus(wrong, corpus, again())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "expectations:\n  - type: expect_x\n    kwargs: {column: tokens}\n",
            r":3: .*no column 'tok",
        ),
        (
            "expectations:\n  - type: mean\n",
            r":2: expectations\.0\.type: given 'mean': must be text of the form",
        ),
        ("expectations: []\n", r":1: expectations: given \[\]: must be a list of at least 1"),
        ("expectation: []\n", r":1: expectation"),
        (
            "expectations:\n  - type: expect_column_quantile_values_to_be_between\n",
            r":2: .*cannot be used",
        ),
        ("- a\n", "must hold fields"),
    ],
)
def test_a_wrong_file_is_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "suite.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says) as failure:
        load_suite(path)
    assert "\n" not in str(failure.value)


def test_the_frame(corpus_of: Callable[..., Corpus], work: Workdir) -> None:
    text = "Wörter � hier\x07\n```\ncode\n```"
    corpus = corpus_of([{"text": text, "headings": ["a", "b"]}], shards=1)
    (path,) = shard_paths(work.artifact_folder(corpus))
    (row,) = frame_of_shard(read_shard(path)).to_pylist()
    assert (row["words"], row["lines"], row["headings"]) == (6, 4, 2)
    assert (row["replacement_characters"], row["control_characters"]) == (1, 1)
    assert row["non_ascii"] == pytest.approx(2 / len(text))
    assert row["characters"] == len(text)
    assert 0.3 < row["code_share"] < 0.6


def test_shares_come_from_the_ledger_of_select(
    corpus_of: Callable[..., Corpus], again: Callable[[], Workdir]
) -> None:
    work, kept = again(), corpus_of(PAGES[:6])
    for path in shard_paths(work.artifact_folder(kept)):
        write_shard(work.folder / path.name, read_shard(path))
    (work.folder / "ledger").mkdir()
    reasons = [[]] * 6 + [["duplicates"], ["quality.min_words", "language.language"]]
    table = pa.table({"reasons": pa.array(reasons, pa.list_(pa.string()))})
    write_shard(work.folder / "ledger" / "00000.parquet", table)
    report = check_corpus(load_suite(DEFAULT_SUITE), work.seal(Corpus), again())
    figures = read_report(work.artifact_folder(report))
    assert figures["kept_share"].value == 6 / 8
    assert figures["duplicate_share"].value == 1 / 8
