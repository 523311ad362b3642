"""Bounds at a quantile hold a share of the corpus, whatever its scores mean, and say their value."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from components.clean.quality.rule import QualityRule
from components.clean.quality.score import QualityConfig, score_quality
from components.clean.quality_classifier.rule import JudgedQualityRule, ToxicityRule
from components.clean.quantile_bounds import QUANTILES_FILE
from components.clean.select import select
from components.core.errors import DataError
from components.core.store.artifact import Corpus, Scores
from components.core.store.shards import read_shards, shard_paths, write_shard
from components.core.store.workdir import Workdir
from flows.configs.text_run import TextRun, TextSelectConfig

Again = Callable[[], Workdir]
Maker = Callable[..., Corpus]


def numbered(corpus_of: Maker, count: int, sites: Sequence[str] = ("a.example",)) -> Corpus:
    pages = [
        {"text": f"page {n}", "url": f"https://{sites[n % len(sites)]}/{n}"} for n in range(count)
    ]
    return corpus_of(pages, shards=2)


def scores_by_number(
    corpus: Corpus, again: Again, columns: Callable[[int], Mapping[str, Any]]
) -> Scores:
    """Scores of pages by their number."""
    work = again()
    for path in shard_paths(work.artifact_folder(corpus)):
        rows = pa.parquet.read_table(path, columns=["id", "text"]).to_pylist()
        table = [{"id": row["id"], **columns(int(row["text"].split()[1]))} for row in rows]
        write_shard(work.folder / path.name, pa.Table.from_pylist(table))
    return work.seal(Scores)


def probabilities(corpus: Corpus, again: Again, of: Callable[[int], float | None]) -> Scores:
    return scores_by_number(corpus, again, lambda n: {"probability": of(n)})


def kept_numbers(chosen: Corpus, again: Again) -> list[int]:
    texts = read_shards(again().artifact_folder(chosen), ["text"])["text"].to_pylist()
    return sorted(int(text.split()[1]) for text in texts)


def judged(**fields: Any) -> TextSelectConfig:
    return TextSelectConfig(judged_quality=JudgedQualityRule(**fields))


def test_a_share_stays_where_every_probability_is_below_the_fixed_bound(
    corpus_of: Maker, again: Again
) -> None:
    corpus = numbered(corpus_of, 20)
    scores = {"judged_quality": probabilities(corpus, again, lambda n: n / 100)}
    chosen = select(judged(quantiles={"min_probability": 0.7}), corpus, scores, again())
    # 0.7 of 19 steps is 13.3: the bound is the score at or below it, which stays.
    assert kept_numbers(chosen, again) == list(range(13, 20))
    assert chosen.stats["bound_judged_quality.min_probability"] == 0.13
    folder = again().artifact_folder(chosen)
    for row in read_shards(folder / "ledger").to_pylist():
        rule = next(r for r in row["rules"] if r["rule"] == "judged_quality.probability")
        assert (rule["at_least"], rule["at_most"]) == (0.13, None)
        assert rule["passed"] == row["kept"]
    assert json.loads((folder / QUANTILES_FILE).read_bytes()) == [
        {
            "bound": "judged_quality.min_probability",
            "group": "",
            "quantile": 0.7,
            "documents": 20,
            "value": 0.13,
        }
    ]


def test_the_highest_are_dropped_and_equal_scores_meet_one_verdict(
    corpus_of: Maker, again: Again
) -> None:
    corpus = numbered(corpus_of, 20)
    config = TextSelectConfig(toxicity=ToxicityRule(quantiles={"max_probability": 0.8}))
    rising = {"toxicity": probabilities(corpus, again, lambda n: 0.9 + n / 1000)}
    assert kept_numbers(select(config, corpus, rising, again()), again) == list(range(17))
    equal = {"toxicity": probabilities(corpus, again, lambda n: 0.9)}
    assert select(config, corpus, equal, again()).stats["kept"] == 20


def test_documents_that_fail_a_fixed_bound_do_not_move_the_quantile(
    corpus_of: Maker, again: Again
) -> None:
    corpus = numbered(corpus_of, 20)
    scores = {
        "judged_quality": probabilities(corpus, again, lambda n: n / 100),
        "toxicity": probabilities(corpus, again, lambda n: 0.9 if n < 10 else 0.1),
    }
    chosen = select(judged(quantiles={"min_probability": 0.5}), corpus, scores, again())
    assert kept_numbers(chosen, again) == list(range(14, 20))


def test_a_site_has_its_own_quantile_and_a_small_one_the_corpus_s(
    corpus_of: Maker, again: Again
) -> None:
    corpus = numbered(corpus_of, 200, sites=("low.example", "high.example"))
    # Even pages are of low.example: 0.000 to 0.198; odd ones of high.example: 0.501 to 0.699.
    scores = {"judged_quality": probabilities(corpus, again, lambda n: n / 1000 + 0.5 * (n % 2))}
    by_site = judged(quantiles={"min_probability": 0.5}, quantiles_by="site")
    kept = kept_numbers(select(by_site, corpus, scores, again()), again)
    assert [n for n in kept if n % 2 == 0] == list(range(98, 200, 2))
    assert [n for n in kept if n % 2 == 1] == list(range(99, 200, 2))
    few = numbered(corpus_of, 198, sites=("low.example", "high.example"))
    scores = {"judged_quality": probabilities(few, again, lambda n: n / 1000 + 0.5 * (n % 2))}
    kept = kept_numbers(select(by_site, few, scores, again()), again)
    assert [n for n in kept if n % 2 == 0] == [196]  # the score at the corpus's median


def test_a_language_has_its_own_quantile(corpus_of: Maker, again: Again) -> None:
    corpus = numbered(corpus_of, 200)
    scores = {
        "judged_quality": probabilities(corpus, again, lambda n: n / 1000 + 0.5 * (n % 2)),
        "language": scores_by_number(
            corpus, again, lambda n: {"language": "de" if n % 2 else "en", "letters": 0}
        ),
    }
    config = TextSelectConfig(
        language=TextSelectConfig().language.model_copy(update={"allowed": ()}),
        judged_quality=JudgedQualityRule(
            quantiles={"min_probability": 0.9}, quantiles_by="language"
        ),
    )
    kept = kept_numbers(select(config, corpus, scores, again()), again)
    assert kept == list(range(178, 200))


def test_a_statistic_is_bounded_by_a_quantile(corpus_of: Maker, again: Again) -> None:
    texts = [" ".join([f"page {n}", *(f"item{k}" for k in range(n))]) for n in range(10)]
    corpus = corpus_of(texts)
    scores = {"quality": score_quality(QualityConfig(), corpus, again())}
    config = TextSelectConfig(
        quality=QualityRule(
            quantiles={"min_words": 0.5}, min_alphabetic_words=0, max_top_2gram=1, max_top_3gram=1
        )
    )
    assert kept_numbers(select(config, corpus, scores, again()), again) == list(range(4, 10))


def test_without_a_classifier_every_document_passes(corpus_of: Maker, again: Again) -> None:
    corpus = numbered(corpus_of, 4)
    untrained = scores_by_number(corpus, again, lambda n: {"probability": None})
    scores = {"judged_quality": untrained}
    chosen = select(judged(quantiles={"min_probability": 0.7}), corpus, scores, again())
    assert chosen.stats["kept"] == 4
    assert "bound_judged_quality.min_probability" not in chosen.stats


def test_where_no_document_passes_the_fixed_bounds_the_rule_that_took_most_is_named(
    corpus_of: Maker, again: Again
) -> None:
    corpus = numbered(corpus_of, 6)
    scores = {
        "judged_quality": probabilities(corpus, again, lambda n: n / 100),
        "toxicity": probabilities(corpus, again, lambda n: 0.9),
    }
    with pytest.raises(DataError, match=r"no document is left of 6; rule toxicity\.probability"):
        select(judged(quantiles={"min_probability": 0.5}), corpus, scores, again())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantiles": {"min_length": 0.5}}, "no bound 'min_length'; bounds: min_probability"),
        ({"quantiles": {"min_probability": 1}}, "less than 1"),
        (
            {"quantiles": {"min_probability": 0.7}, "min_probability": 0.2},
            r"by a value \(0\.2\) and by a quantile \(0\.7\): leave one out",
        ),
        ({"quantiles_by": "site"}, "quantiles_by: site without quantiles has no effect"),
    ],
)
def test_contradictory_settings_are_named(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        JudgedQualityRule(**fields)


def test_quantiles_between_which_nothing_lies_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"min_words \(0\.9\) must be below max_words"):
        QualityRule(quantiles={"min_words": 0.9, "max_words": 0.1})


@pytest.mark.parametrize(
    ("rule", "judge"), [("judged_quality", "quality_judge"), ("toxicity", "toxicity_judge")]
)
def test_a_quantile_of_a_classifier_that_nothing_teaches_is_refused(rule: str, judge: str) -> None:
    bound = "min_probability" if rule == "judged_quality" else "max_probability"
    with pytest.raises(ValidationError, match=rf"select\.{rule}\.quantiles .* {judge}\.examples"):
        TextRun.model_validate({"select": {rule: {"quantiles": {bound: 0.5}}}})
