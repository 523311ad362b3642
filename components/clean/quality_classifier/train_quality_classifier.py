"""Training of a document classifier on the user's examples: good or bad, toxic or not.

Logistic regression on hashed character n-grams and the published quality statistics. A few
hundred labelled documents are enough to rank better than any single statistic does (``modelmill
bench curate --only quality``). The model is safetensors and JSON, never pickle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from components.clean.quality.score import SCHEMA as STATISTICS
from components.clean.quality.score import QualityConfig, score_quality_shard
from components.clean.quality_classifier.logistic_regression import (
    Features,
    Vector,
    fit_logistic,
    predict_probabilities,
)
from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.stats.roc_auc import auc_interval
from components.core.store.artifact import Classifier, canonical_json
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.char_ngrams import (
    SparseRows,
    count_ngrams,
    inverse_document_frequency,
    tfidf_rows,
)
from components.text.heldout_split import split_position

MODEL, RECORD = "model.safetensors", "judge.json"
STATISTIC_NAMES = tuple(field.name for field in STATISTICS if field.name != "id")
FOLDS = 5
_MAX_DEVIATIONS = 4.0
"""Standard deviations at which a statistic is clipped: one odd page must not decide."""
REJECTED = pa.schema([("row", pa.string()), ("reason", pa.string())])


class QualityClassifierConfig(StageConfig):
    """Examples and strength of the classifier; without examples every document passes."""

    examples: tuple[HashedFile, ...] = Field(
        default=(), description="JSONL files, plain or gzip, a text and a label a row"
    )
    about: str = Field(
        default="quality",
        pattern="^[a-z_]+$",
        description="subject of the label, which names the model and the field in messages",
    )
    text: str = Field(default="text", description="field of a row that holds the text")
    label: str = Field(default="label", description="field that holds the label")
    positive: str = Field(
        default="1", description="the label whose probability is scored; true counts as 1"
    )
    strength: float = Field(
        default=10.0,
        gt=0,
        le=1e6,
        description="trust in the examples, against small weights: 1 / (n * ridge)",
    )
    statistics: float = Field(
        default=0.05, ge=0, le=10, description="weight of the quality statistics beside the n-grams"
    )
    min_auc: float = Field(
        default=0.6, ge=0.5, le=1, description="floor of the AUC on examples that were held out"
    )
    min_examples: int = Field(
        default=20, ge=2, description="fewest examples of a label for which the floor is asked"
    )


@dataclass(frozen=True)
class QualityClassifier:
    """A trained model: the scaling of features, and their weights."""

    rare: Vector
    """[slots] rarity of n-grams among the examples."""
    centre: Vector
    spread: Vector
    """[statistics] mean and standard deviation among the examples."""
    share: float
    """Weight of the statistics."""
    weights: Vector

    def predict_texts(self, texts: Sequence[str]) -> Vector:
        """Probability of the positive label for each text."""
        if not texts:
            return np.empty(0)
        grams, values = count_ngrams(texts), quality_statistics(texts)
        return predict_probabilities(self._features(grams, values), self.weights)

    def _features(self, grams: SparseRows, values: NDArray[np.float64]) -> Features:
        return _features(grams, values, self.rare, self.centre, self.spread, self.share)

    def save(self, path: Path) -> None:
        """Write the model to ``path``, whole or not at all."""
        from safetensors.numpy import save

        tensors = {
            "rare": self.rare,
            "centre": self.centre,
            "spread": self.spread,
            "share": np.array([self.share]),
            "weights": self.weights,
        }
        write_atomically(path, save(tensors))

    @classmethod
    def load(cls, path: Path) -> QualityClassifier:
        """The model in a file."""
        from safetensors.numpy import load

        tensors = load(path.read_bytes())
        share = float(tensors.pop("share")[0])
        return cls(share=share, **tensors)


def quality_statistics(texts: Sequence[str]) -> NDArray[np.float64]:
    """ln(1 + value) of every quality statistic: [texts, names]."""
    table = pa.table({"id": [str(at) for at in range(len(texts))], "text": list(texts)})
    values = score_quality_shard(table, QualityConfig().short_line)
    columns = [values[name].to_numpy().astype(np.float64) for name in STATISTIC_NAMES]
    return np.asarray(np.log1p(np.stack(columns, axis=1)), dtype=np.float64)


def _features(
    grams: SparseRows,
    values: NDArray[np.float64],
    rare: Vector,
    centre: Vector,
    spread: Vector,
    share: float,
) -> Features:
    dense = np.clip((values - centre) / spread, -_MAX_DEVIATIONS, _MAX_DEVIATIONS) * share
    return Features(tfidf_rows(grams, rare), dense)


def fit_classifier(
    config: QualityClassifierConfig, texts: Sequence[str], positive: NDArray[np.bool_]
) -> QualityClassifier:
    """Train on labelled texts, some of each label.

    Args:
        config: Strength of the fit and weight of the statistics.
        texts: The examples.
        positive: [texts] which have the positive label.
    """
    grams, values = count_ngrams(texts), quality_statistics(texts)
    rare, centre = inverse_document_frequency(grams), values.mean(axis=0)
    spread = values.std(axis=0)
    spread[spread < 1e-9] = 1.0
    features = _features(grams, values, rare, centre, spread, config.statistics)
    weights = fit_logistic(features, positive, 1 / (config.strength * len(texts)))
    return QualityClassifier(rare, centre, spread, config.statistics, weights)


def train_quality_classifier(config: QualityClassifierConfig, work: Workdir) -> Classifier:
    """Train the classifier, and measure it by cross-validation on examples it has not seen.

    Raises:
        DataError: a file changed, a label has too few examples, the AUC is below ``min_auc``.
    """
    texts, positive = _read_examples(config, work)
    if not texts:
        write_atomically(
            work.folder / RECORD, canonical_json({"about": config.about, "examples": 0})
        )
        return work.seal(Classifier, stats={"examples": 0.0})
    work.progress.start_count(FOLDS + 1, "trainings")
    heldout = _cross_validate(config, texts, positive, work)
    figure = auc_interval(heldout, positive)
    measured = min(positive.sum(), (~positive).sum()) >= config.min_examples
    if measured and figure.value < config.min_auc:
        raise DataError(
            f"{config.about}_judge: AUC {figure.value:.3f} on held-out examples is below min_auc "
            f"{config.min_auc:g}; give more examples or better labels, or lower it"
        )
    fit_classifier(config, texts, positive).save(work.folder / MODEL)
    work.progress.advance()
    stats = {
        "auc": round(figure.value, 6),
        "auc_low": round(figure.low, 6),
        "auc_high": round(figure.high, 6),
        "examples": float(len(texts)),
        "positive": float(positive.sum()),
    }
    record = {"about": config.about, "positive_label": config.positive, **stats}
    write_atomically(work.folder / RECORD, canonical_json(record))
    return work.seal(Classifier, stats=stats)


def _cross_validate(
    config: QualityClassifierConfig,
    texts: Sequence[str],
    positive: NDArray[np.bool_],
    work: Workdir,
) -> Vector:
    """Probability of each example from a model that has not seen its fold.

    A fold is given by the text alone, a label's examples in turn, so that no fold lacks one.
    """
    order = sorted(
        range(len(texts)), key=lambda at: (bool(positive[at]), split_position(texts[at], 0))
    )
    fold = np.empty(len(texts), dtype=np.int64)
    fold[order] = np.arange(len(texts)) % FOLDS
    predicted = np.empty(len(texts))
    for number in range(FOLDS):
        seen = np.flatnonzero(fold != number).tolist()
        unseen = np.flatnonzero(fold == number).tolist()
        fold_classifier = fit_classifier(config, [texts[at] for at in seen], positive[seen])
        predicted[unseen] = fold_classifier.predict_texts([texts[at] for at in unseen])
        work.progress.advance()
    return predicted


def _read_examples(
    config: QualityClassifierConfig, work: Workdir
) -> tuple[list[str], NDArray[np.bool_]]:
    """Texts and which are positive; equal texts once, bad rows go to quarantine with a reason."""
    labels: dict[str, str] = {}
    refused: list[dict[str, str]] = []
    for file in config.examples:
        for name, row in file.read_json_lines(f"{config.about}_judge.examples"):
            reason = _rejection_reason(config, row, labels)
            if reason:
                refused.append({"row": name, "reason": reason})
            else:
                labels[row[config.text]] = _normalise_label(row[config.label])
    if refused:
        write_shard(work.folder / "quarantine.parquet", pa.Table.from_pylist(refused, REJECTED))
    texts = list(labels)
    positive = np.array([labels[text] == config.positive.casefold() for text in texts], dtype=bool)
    for count, which in ((positive.sum(), "have"), ((~positive).sum(), "lack")):
        if config.examples and count < FOLDS:
            label_list = ", ".join(sorted(set(labels.values()))[:8]) or "none"
            why = f" (first bad row: {refused[0]['row']} {refused[0]['reason']})" if refused else ""
            raise DataError(
                f"{config.about}_judge: {count} example(s) {which} label {config.positive!r}, "
                f"{FOLDS} are needed; labels: {label_list}{why}"
            )
    return texts, positive


def _normalise_label(value: object) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value).strip().casefold()


def _rejection_reason(config: QualityClassifierConfig, row: object, labels: dict[str, str]) -> str:
    """Reason for which a row is no example; empty where it is one."""
    if not isinstance(row, dict):
        return "is no JSON object"
    if not isinstance(row.get(config.text), str) or not row[config.text].strip():
        return f"has no text in field {config.text!r}"
    if not isinstance(row.get(config.label), str | int | bool):
        return f"has no label in field {config.label!r}"
    if labels.get(row[config.text], label := _normalise_label(row[config.label])) != label:
        return "labels a text that an earlier row labels otherwise"
    return ""
