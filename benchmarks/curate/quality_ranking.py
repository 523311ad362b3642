"""AUC of the quality classifier on held-out labelled documents, beside the best single statistic.

Data: web documents with a majority label of people (DCLM). The classifier is trained on a random
half, stratified by label, and ranks the other half. The baseline is the single best published
statistic, its name and direction chosen on the training half. The AUC's interval is DeLong's on the
half with the median AUC; the classifier must win on average over the halves by two standard errors
of the paired differences.
"""

from __future__ import annotations

import json
import statistics as st

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.clean.quality_classifier.train_quality_classifier import (
    STATISTIC_NAMES,
    QualityClassifierConfig,
    fit_classifier,
    quality_statistics,
)
from components.core.stats.figures import Figure
from components.core.stats.roc_auc import auc_interval

DATA = "quality/majority_data.jsonl"
HALVES = 5
Rows = NDArray[np.int64]


def measure_quality_ranking(setting: BenchSetting) -> list[BenchFigure]:
    """Mean AUC of the classifier over several halves, beside the best single statistic's."""
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable("quality: AUC", "", f"no reference data {DATA}")]
    documents = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [document["text"] for document in documents]
    good = np.array([document["label"] == 1 for document in documents])
    singles = quality_statistics(texts)
    ours, theirs, names = list[Figure](), list[float](), list[str]()
    for seed in range(HALVES):
        setting.on_progress(f"half {seed + 1} of {HALVES}")
        train, test = _split_halves(good, seed)
        classifier = fit_classifier(
            QualityClassifierConfig(), [texts[at] for at in train.tolist()], good[train]
        )
        scores = classifier.predict_texts([texts[at] for at in test.tolist()])
        ours.append(auc_interval(scores, good[test]))
        name, value = _best_single(singles, good, train, test)
        theirs.append(value)
        names.append(name)
    wins = [figure.value - value for figure, value in zip(ours, theirs, strict=True)]
    middle = sorted(ours, key=lambda figure: figure.value)[HALVES // 2]
    value, rival = st.fmean(figure.value for figure in ours), st.fmean(theirs)
    note = f"mean of {HALVES} halves; the middle one {middle.value:.3f} "
    note += f"[{middle.low:.3f}, {middle.high:.3f}] of {middle.n} documents"
    error = st.stdev(wins) / HALVES**0.5
    peer = f"best single statistic ({', '.join(sorted(set(names)))})"
    return [
        BenchFigure.beside_peer(
            "quality: AUC on the other half",
            value,
            "",
            peer,
            rival,
            True,
            better="higher",
            note=note,
        ),
        BenchFigure.against_target(
            "quality: AUC above the best single statistic, less two standard errors",
            st.fmean(wins) - 2 * error,
            "",
            0.0,
            better="higher",
            note=f"of {HALVES} halves",
        ),
    ]


def _split_halves(good: NDArray[np.bool_], seed: int) -> tuple[Rows, Rows]:
    """(training rows, test rows), half of each label's documents."""
    draw = np.random.default_rng(seed)
    train = [draw.permutation(np.flatnonzero(good == which)) for which in (False, True)]
    chosen = np.sort(np.concatenate([rows[: len(rows) // 2] for rows in train]))
    return chosen, np.setdiff1d(np.arange(len(good)), chosen)


def _best_single(
    singles: NDArray[np.float64], good: NDArray[np.bool_], train: Rows, test: Rows
) -> tuple[str, float]:
    """(name, AUC on the test half) of the statistic that is best on the training half."""
    training_aucs = [auc_interval(column[train], good[train]).value for column in singles.T]
    best = max(range(len(training_aucs)), key=lambda at: abs(training_aucs[at] - 0.5))
    value = auc_interval(singles[test, best], good[test]).value
    return STATISTIC_NAMES[best], value if training_aucs[best] >= 0.5 else 1 - value
