"""The quality classifier learns what the user's examples show, and says nothing without any."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from components.clean.quality_classifier.score import (
    QualityClassifierScoreConfig,
    score_with_quality_classifier,
)
from components.clean.quality_classifier.train_quality_classifier import (
    QualityClassifier,
    QualityClassifierConfig,
    fit_classifier,
    train_quality_classifier,
)
from components.clean.select import select
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shard, read_shards
from components.core.store.workdir import Workdir
from flows.configs.text_run import TextSelectConfig

Again = Callable[[], Workdir]
GOOD = ("explains", "measures", "describes", "compares", "derives", "observes")
BAD = ("BUY", "cheap!!!", "click", "casino", "winner", "free$$$")


def document(good: bool, draw: random.Random) -> str:
    words = GOOD if good else BAD
    return " ".join(f"The page {draw.choice(words)} item {draw.randrange(99)}." for _ in range(12))


def examples(folder: Path, rows: Sequence[Any]) -> HashedFile:
    path = folder / "examples.jsonl"
    path.write_text("\n".join(r if isinstance(r, str) else json.dumps(r) for r in rows))
    return HashedFile.model_validate(str(path))


def labelled(count: int = 40) -> list[dict[str, Any]]:
    draw = random.Random(4)
    return [{"text": document(n % 2 == 0, draw), "label": n % 2 == 0} for n in range(count)]


def test_it_learns_scores_and_select_drops(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = QualityClassifierConfig(examples=(examples(tmp_path, labelled()),))
    classifier = train_quality_classifier(config, again())
    assert classifier.stats["auc_low"] > 0.9
    assert (classifier.stats["examples"], classifier.stats["positive"]) == (40, 20)
    draw = random.Random(5)
    corpus = corpus_of([document(n < 5, draw) for n in range(10)])
    scores = score_with_quality_classifier(
        QualityClassifierScoreConfig(), corpus, classifier, again()
    )
    chosen = select(TextSelectConfig(), corpus, {"judged_quality": scores}, again())
    ledger = read_shards(again().artifact_folder(chosen) / "ledger").to_pylist()
    kept = sorted(row["url"][-1] for row in ledger if row["kept"])
    assert kept == list("01234")
    assert {tuple(r["reasons"]) for r in ledger if not r["kept"]} == {
        ("judged_quality.probability",)
    }


def test_two_trainings_give_the_same_bytes(again: Again, tmp_path: Path) -> None:
    config = QualityClassifierConfig(examples=(examples(tmp_path, labelled()),))
    assert (
        train_quality_classifier(config, again()).digest
        == train_quality_classifier(config, again()).digest
    )


def test_without_examples_every_document_passes(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    classifier = train_quality_classifier(QualityClassifierConfig(), again())
    corpus = corpus_of(["one", "two"])
    scores = score_with_quality_classifier(
        QualityClassifierScoreConfig(), corpus, classifier, again()
    )
    assert read_shards(again().artifact_folder(scores))["probability"].to_pylist() == [None, None]
    chosen = select(TextSelectConfig(), corpus, {"toxicity": scores}, again())
    assert chosen.stats["kept"] == 2


def test_bad_rows_are_set_aside_with_a_reason(again: Again, tmp_path: Path) -> None:
    rows = labelled()
    twice = {"text": rows[0]["text"], "label": "0"}
    bad = ["nope", {"text": 3, "label": 1}, {"text": "x", "label": [1]}, twice]
    work = again()
    classifier = train_quality_classifier(
        QualityClassifierConfig(examples=(examples(tmp_path, [*rows, *bad]),)), work
    )
    refused = read_shard(work.artifact_folder(classifier) / "quarantine.parquet")[
        "reason"
    ].to_pylist()
    assert refused == [
        "is no JSON object",
        "has no text in field 'text'",
        "has no label in field 'label'",
        "labels a text that an earlier row labels otherwise",
    ]


def test_a_label_without_examples_and_noise_are_refused(again: Again, tmp_path: Path) -> None:
    config = QualityClassifierConfig(examples=(examples(tmp_path, labelled()),), positive="good")
    with pytest.raises(DataError, match=r"0 example\(s\) have label 'good'.*labels: 0, 1"):
        train_quality_classifier(config, again())
    draw = random.Random(7)
    noise = [{"text": document(draw.random() < 0.5, draw), "label": n % 2} for n in range(80)]
    config = QualityClassifierConfig(examples=(examples(tmp_path, noise),), min_auc=0.8)
    with pytest.raises(DataError, match=r"AUC 0\.\d+ on held-out examples is below min_auc 0\.8"):
        train_quality_classifier(config, again())


def test_a_saved_model_predicts_what_the_trained_one_did(tmp_path: Path) -> None:
    rows = labelled()
    positive = np.array([row["label"] for row in rows])
    trained = fit_classifier(QualityClassifierConfig(), [row["text"] for row in rows], positive)
    trained.save(tmp_path / "model.safetensors")
    texts = ["The page explains item 3.", "BUY cheap!!!", "", "\ud800 half a sign", "春夏秋冬" * 9]
    predicted = QualityClassifier.load(tmp_path / "model.safetensors").predict_texts(texts)
    assert predicted.tolist() == trained.predict_texts(texts).tolist()
    assert predicted[0] > 0.5 > predicted[1]


def test_threads_do_not_change_the_model(again: Again, tmp_path: Path) -> None:
    config = QualityClassifierConfig(examples=(examples(tmp_path, labelled()),))
    digests = set()
    for threads in (1, 4):
        with threadpool_limits(threads):
            digests.add(train_quality_classifier(config, again()).digest)
    assert len(digests) == 1
