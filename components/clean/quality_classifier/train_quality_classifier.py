"""Training of a document classifier on the user's examples: good or bad, toxic or not.

scikit-learn's logistic regression on tf-idf of hashed character n-grams, beside the published
quality statistics. A few hundred labelled documents are enough to rank better than words alone or
any single statistic does (``modelmill bench curate --only quality``). The model is safetensors and
JSON, never pickle.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from components.clean.quality.score import SCHEMA as STATISTICS
from components.clean.quality.score import QualityConfig, score_quality_shard
from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.stats.roc_auc import auc_interval
from components.core.store.artifact import Classifier, canonical_json
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.heldout_split import split_position

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Vector = NDArray[np.float64]
MODEL, RECORD = "model.safetensors", "judge.json"
STATISTIC_NAMES = tuple(field.name for field in STATISTICS if field.name != "id")
FOLDS = 5
NGRAM_SIZES = (2, 4)
"""Characters of the shortest and longest n-gram: they carry words, endings, punctuation and layout
at once, and need no words where a script has no spaces."""
SLOTS = 1 << 18
"""More slots, fewer n-grams that share one, and a larger model (4 MB)."""
MAX_CHARACTERS = 50_000
"""Characters of one text that are read."""
_SPACE, _DIGIT = re.compile(r"\s+"), re.compile(r"\d")
_TOLERANCE = 1e-6
_MAX_ITERATIONS = 1000
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
        description="trust in the examples, against small weights: the C of scikit-learn",
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
    """[slots + statistics + 1], the constant last."""

    def predict_texts(self, texts: Sequence[str]) -> Vector:
        """Probability of the positive label for each text."""
        if not texts:
            return np.empty(0)
        features = self._features(count_ngrams(texts), quality_statistics(texts))
        linear = features @ self.weights[:-1] + self.weights[-1]
        return np.asarray(0.5 * (1 + np.tanh(0.5 * linear)), dtype=np.float64)

    def _features(self, grams: csr_matrix, values: NDArray[np.float64]) -> csr_matrix:
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
    whole = [_replace_surrogates(text) for text in texts]
    table = pa.table({"id": [str(at) for at in range(len(texts))], "text": whole})
    values = score_quality_shard(table, QualityConfig().short_line)
    columns = [values[name].to_numpy().astype(np.float64) for name in STATISTIC_NAMES]
    return np.asarray(np.log1p(np.stack(columns, axis=1)), dtype=np.float64)


def count_ngrams(texts: Sequence[str]) -> csr_matrix:
    """Counts of the n-grams of each slot in each text, white space joined and digits alike."""
    from sklearn.feature_extraction.text import HashingVectorizer

    vectorizer = HashingVectorizer(
        analyzer="char",
        ngram_range=NGRAM_SIZES,
        n_features=SLOTS,
        alternate_sign=False,
        norm=None,
        preprocessor=_fold_text,
    )
    return vectorizer.transform(texts)


def _fold_text(text: str) -> str:
    return _DIGIT.sub("0", _SPACE.sub(" ", _replace_surrogates(text[:MAX_CHARACTERS])))


def _replace_surrogates(text: str) -> str:
    """The text with "?" for lone surrogates, which JSON can escape and UTF-8 cannot hold."""
    return text.encode(errors="replace").decode()


def _features(
    grams: csr_matrix,
    values: NDArray[np.float64],
    rare: Vector,
    centre: Vector,
    spread: Vector,
    share: float,
) -> csr_matrix:
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import TfidfTransformer

    weighing = TfidfTransformer(sublinear_tf=True)
    weighing.idf_ = rare
    dense = np.clip((values - centre) / spread, -_MAX_DEVIATIONS, _MAX_DEVIATIONS) * share
    return hstack([weighing.transform(grams), csr_matrix(dense)], format="csr")


def fit_classifier(
    config: QualityClassifierConfig, texts: Sequence[str], positive: NDArray[np.bool_]
) -> QualityClassifier:
    """Train on labelled texts, some of each label.

    Args:
        config: Strength of the fit and weight of the statistics.
        texts: The examples.
        positive: [texts] which have the positive label.
    """
    from sklearn.feature_extraction.text import TfidfTransformer
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    grams, values = count_ngrams(texts), quality_statistics(texts)
    rare, centre = TfidfTransformer().fit(grams).idf_, values.mean(axis=0)
    spread = values.std(axis=0)
    spread[spread < 1e-9] = 1.0
    features = _features(grams, values, rare, centre, spread, config.statistics)
    model = LogisticRegression(C=config.strength, tol=_TOLERANCE, max_iter=_MAX_ITERATIONS)
    with threadpool_limits(1):  # sums of several threads have another order, and other bytes
        model.fit(features, positive)
    weights = np.concatenate([model.coef_[0], model.intercept_])
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
