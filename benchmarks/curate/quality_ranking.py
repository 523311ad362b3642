"""AUC of the quality classifier on held-out labelled documents, beside tf-idf of words.

Data: web documents with a majority label of people (DCLM). The classifier is trained on a random
half, stratified by label, and ranks the other half. The rivals are scikit-learn's plain recipe
(tf-idf of words, logistic regression, all defaults) and the single best published statistic, its
name and direction chosen on the training half. The AUC's interval is DeLong's on the half with the
median AUC; over the halves the classifier must win by two standard errors of the paired
differences, where the error is corrected for halves that share documents (Nadeau & Bengio 2003).

Under shift it is trained on the shorter documents and ranks the longer ones, and the reverse, which
differ in kind and in their share of good ones. What a bound keeps there is shown for the fixed 0.5
and for a quantile at the true share.
"""

from __future__ import annotations

import json
import statistics as st
from dataclasses import dataclass

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
WORDS_PEER = "tf-idf of words with logistic regression (scikit-learn's defaults)"
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class LabelledDocuments:
    """Documents, their labels, and the statistics of each."""

    texts: list[str]
    good: NDArray[np.bool_]
    statistics: NDArray[np.float64]

    def choose_texts(self, rows: Rows) -> list[str]:
        return [self.texts[row] for row in rows.tolist()]

    def score_ours(self, train: Rows, test: Rows) -> NDArray[np.float64]:
        """Probability of each test row by the product's classifier."""
        classifier = fit_classifier(
            QualityClassifierConfig(), self.choose_texts(train), self.good[train]
        )
        return classifier.predict_texts(self.choose_texts(test))

    def score_words(self, train: Rows, test: Rows) -> NDArray[np.float64]:
        """Probability of each test row by the plain recipe."""
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        model = make_pipeline(TfidfVectorizer(), LogisticRegression())
        model.fit(self.choose_texts(train), self.good[train])
        scores = model.predict_proba(self.choose_texts(test))[:, 1]
        return np.asarray(scores, dtype=np.float64)


def measure_quality_ranking(setting: BenchSetting) -> list[BenchFigure]:
    """Mean AUC over several halves and under shift, and what bounds keep under shift."""
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable("quality: AUC", "", f"no reference data {DATA}")]
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    texts = [row["text"] for row in rows]
    good = np.array([row["label"] == 1 for row in rows])
    documents = LabelledDocuments(texts, good, quality_statistics(texts))
    return [*_measure_halves(setting, documents), *_measure_shift(setting, documents)]


def _measure_halves(setting: BenchSetting, documents: LabelledDocuments) -> list[BenchFigure]:
    good = documents.good
    ours, words, singles, names = list[Figure](), list[float](), list[float](), set[str]()
    for seed in range(HALVES):
        setting.on_progress(f"half {seed + 1} of {HALVES}")
        train, test = _split_halves(good, seed)
        ours.append(auc_interval(documents.score_ours(train, test), good[test]))
        words.append(auc_interval(documents.score_words(train, test), good[test]).value)
        name, value = _best_single(documents.statistics, good, train, test)
        singles.append(value)
        names.add(name)
    middle = sorted(ours, key=lambda figure: figure.value)[HALVES // 2]
    note = f"mean of {HALVES} halves; the middle one {middle.value:.3f} "
    note += f"[{middle.low:.3f}, {middle.high:.3f}] of {middle.n} documents"
    figures = []
    single = f"best single statistic ({', '.join(sorted(names))})"
    for peer, rival in ((WORDS_PEER, words), (single, singles)):
        figures += [
            BenchFigure.beside_peer(
                "quality: AUC on the other half",
                st.fmean(figure.value for figure in ours),
                "",
                peer,
                st.fmean(rival),
                True,
                better="higher",
                note=note,
            ),
            BenchFigure.against_target(
                f"quality: AUC above {peer}, less two standard errors",
                _least_win([f.value - value for f, value in zip(ours, rival, strict=True)]),
                "",
                0.0,
                better="higher",
                note=f"of {HALVES} halves",
            ),
        ]
    return figures


def _least_win(wins: list[float]) -> float:
    """Mean of the wins less two corrected standard errors: a half is tested, a half trained on."""
    error: float = st.stdev(wins) * (1 / len(wins) + 1) ** 0.5
    return st.fmean(wins) - 2 * error


def _measure_shift(setting: BenchSetting, documents: LabelledDocuments) -> list[BenchFigure]:
    lengths = np.array([len(text) for text in documents.texts])
    short = np.flatnonzero(lengths < np.median(lengths))
    long = np.flatnonzero(lengths >= np.median(lengths))
    figures = []
    for name, train, test in (("short to long", short, long), ("long to short", long, short)):
        setting.on_progress(f"shift {name}")
        good = documents.good[test]
        scores = documents.score_ours(train, test)
        ours = auc_interval(scores, good)
        rival = auc_interval(documents.score_words(train, test), good).value
        note = f"[{ours.low:.3f}, {ours.high:.3f}] of {ours.n} documents"
        figures.append(
            BenchFigure.beside_peer(
                f"quality: AUC from {name} documents",
                ours.value,
                "",
                WORDS_PEER,
                rival,
                False,
                better="higher",
                note=note,
            )
        )
        at_share = float(np.quantile(scores, 1 - good.mean(), method="lower"))
        for bound, value in (("0.5", 0.5), ("the quantile of the true share", at_share)):
            kept = scores >= value
            note = f"of those kept {good[kept].mean():.2f} are good, of all {good.mean():.2f}"
            figures.append(
                BenchFigure(
                    f"quality: share of good documents kept, {name}, bound at {bound}",
                    float(kept[good].mean()),
                    "",
                    better="higher",
                    note=note,
                )
            )
    return figures


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
