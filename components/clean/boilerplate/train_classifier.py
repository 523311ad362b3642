"""Training of the fastText classifier that tells main text from boilerplate, line by line.

Text is learnt from the lines of documents, boilerplate from the navigation that extraction kept
apart. A corpus without navigation (plain text files) is contrasted with boilerplate as sites write
it (``common_boilerplate.py``); lines that the user labelled take the place of both.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pydantic import Field

from components.clean.boilerplate.common_boilerplate import common_boilerplate
from components.clean.boilerplate.fasttext_process import (
    FasttextConfig,
    FasttextTraining,
    train_in_fresh_process,
)
from components.clean.boilerplate.page_lines import (
    BOILERPLATE,
    LABELS,
    TEXT,
    content_lines,
    line_features,
)
from components.core.config.hashed_file import HashedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import publish_path, write_atomically
from components.core.stats.figures import proportion_interval
from components.core.store.artifact import Classifier, Corpus, canonical_json
from components.core.store.shards import map_shards, read_shards
from components.core.store.workdir import Workdir
from components.text.heldout_split import is_heldout

MODEL = "model.bin"
LINES = pa.schema([("label", pa.string()), ("line", pa.string()), ("pages", pa.int64())])
CLEAR_MAJORITY = 2
"""Factor by which a line stands on more pages under one label than under the other to have it."""
_PREFIX = "__label__"


class ClassifierConfig(StageConfig):
    """Training lines of the classifier, and the accuracy it must reach."""

    labelled: tuple[HashedFile, ...] = Field(
        default=(),
        description="files of lines, __label__text or __label__boilerplate before each, used "
        "instead of the corpus's own",
    )
    max_lines: int = Field(
        default=12_000,
        ge=100,
        le=5_000_000,
        description="most distinct lines of one label that are learnt from",
    )
    min_boilerplate: int = Field(
        default=50,
        ge=1,
        description="fewest different navigation lines; below it, common boilerplate is added",
    )
    heldout_share: float = Field(
        default=0.1, gt=0, le=0.5, description="share of lines the accuracy is measured on"
    )
    min_accuracy: float = Field(
        default=0.75,
        ge=0.5,
        le=1,
        description="floor of the held-out accuracy, the mean over both labels",
    )
    min_heldout: int = Field(
        default=20,
        ge=1,
        description="fewest held-out lines of a label for which the floor is asked",
    )
    fit: FasttextConfig = Field(default=FasttextConfig(), description="fastText's settings")


def train_classifier(config: ClassifierConfig, corpus: Corpus, work: Workdir) -> Classifier:
    """Train ``model.bin`` and measure it on held-out lines (``classifier.json``).

    Args:
        config: Training lines, fastText's settings and the accuracy asked for.
        corpus: The extracted documents, with the navigation kept apart.
        work: Where the classifier is written.

    Raises:
        DataError: a label has no line, or the held-out accuracy is below ``min_accuracy``.
    """
    lines = _labelled_lines(config) if config.labelled else _corpus_lines(config, corpus, work)
    builtin = 0
    if not config.labelled and len(lines[BOILERPLATE]) < config.min_boilerplate:
        added = [
            line for line in _distinct_features(common_boilerplate()) if line not in lines[TEXT]
        ]
        builtin = len(added)
        lines[BOILERPLATE] = _sample_lines({*lines[BOILERPLATE], *added}, config.max_lines)
    train, heldout = _split_heldout(config, lines)
    examples = work.scratch / "lines.txt"
    write_atomically(examples, "".join(f"{row}\n" for row in _balanced_rows(train)).encode())
    model = work.scratch / f"{os.getpid()}.bin"  # an orphan of a killed try writes its own
    work.progress.start_count(None, "lines")
    train_in_fresh_process(FasttextTraining(**config.fit.model_dump(), lines=examples, model=model))
    figures = _measure_recall(model, heldout)
    measured = min(figures[f"heldout_{label}"] for label in LABELS) >= config.min_heldout
    if measured and figures["accuracy"] < config.min_accuracy:
        raise DataError(
            f"classifier: held-out accuracy {figures['accuracy']:.3f} is below min_accuracy "
            f"{config.min_accuracy:g}; give labelled lines (classifier.labelled), or lower it"
        )
    publish_path(model, work.folder / MODEL)
    counts = {f"train_{label}": float(len(train[label])) for label in LABELS}
    stats = {**figures, "builtin": float(builtin), **counts}
    record = {"labels": list(LABELS), **stats}
    write_atomically(work.folder / "classifier.json", canonical_json(record))
    return work.seal(Classifier, stats=stats)


def _corpus_lines(config: ClassifierConfig, corpus: Corpus, work: Workdir) -> dict[str, list[str]]:
    """Distinct lines of each label: a page's name is text once and a menu's entry many times."""
    samples = work.scratch / "lines"
    map_shards(
        work,
        work.artifact_folder(corpus),
        sample_lines_of_shard,
        folder=samples,
        max_lines=config.max_lines,
    )
    pages: dict[str, Counter[str]] = {label: Counter() for label in LABELS}
    for row in read_shards(samples).to_pylist():
        pages[row["label"]][row["line"]] += row["pages"]
    pages_of_other = {TEXT: pages[BOILERPLATE], BOILERPLATE: pages[TEXT]}
    return {
        label: _sample_lines(
            (
                line
                for line, n in pages[label].items()
                if n >= CLEAR_MAJORITY * pages_of_other[label][line]
            ),
            config.max_lines,
        )
        for label in LABELS
    }


def sample_lines_of_shard(table: pa.Table, max_lines: int) -> pa.Table:
    """A sample of each label's lines in one shard, with the pages they stand on (in a worker).

    A line drawn from all shards together is also drawn from each shard that holds it, since
    lines rank by their own digest: the counts of the corpus's sample are whole.
    """
    rows: list[dict[str, object]] = []
    for label, column in ((TEXT, "text"), (BOILERPLATE, "navigation")):
        pages: Counter[str] = Counter()
        for page in table[column].to_pylist():
            pages.update(_distinct_features(content_lines(page)))
        rows.extend(
            {"label": label, "line": line, "pages": pages[line]}
            for line in _sample_lines(pages, max_lines)
        )
    return pa.Table.from_pylist(rows, schema=LINES)


def _labelled_lines(config: ClassifierConfig) -> dict[str, list[str]]:
    lines: dict[str, set[str]] = {label: set() for label in LABELS}
    for file in config.labelled:
        rows = file.read_content("classifier.labelled").decode(errors="replace").splitlines()
        for number, row in enumerate(rows, start=1):
            label, _, line = row.partition(" ")
            if row.strip() and label.removeprefix(_PREFIX) not in LABELS:
                raise DataError(
                    f"{file.name}:{number}: begin with {_PREFIX}{TEXT} or {_PREFIX}{BOILERPLATE}"
                )
            if line.strip():
                lines[label.removeprefix(_PREFIX)].update(_distinct_features([line]))
    both = lines[TEXT] & lines[BOILERPLATE]
    return {label: _sample_lines(lines[label] - both, config.max_lines) for label in LABELS}


def _distinct_features(lines: Iterable[str]) -> set[str]:
    return {features for line in lines if (features := line_features(line))}


def _sample_lines(lines: Iterable[str], max_lines: int) -> list[str]:
    """At most ``max_lines`` lines in the order of their digests, which no process changes."""
    ranked = sorted(
        (hashlib.sha256(line.encode(errors="replace")).digest(), line) for line in lines
    )
    return [line for _, line in ranked[:max_lines]]


def _split_heldout(
    config: ClassifierConfig, lines: dict[str, list[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    train: dict[str, list[str]] = {}
    heldout: dict[str, list[str]] = {}
    for label in LABELS:
        outside = [
            line for line in lines[label] if is_heldout(line, config.heldout_share, config.fit.seed)
        ]
        heldout[label] = outside or lines[label][:1]
        chosen = set(heldout[label])
        train[label] = [line for line in lines[label] if line not in chosen]
        if not train[label]:
            raise DataError(
                f"classifier: {len(lines[label])} line(s) of {label} are too few to learn from; "
                "give labelled lines (classifier.labelled)"
            )
    return train, heldout


def _balanced_rows(train: dict[str, list[str]]) -> Iterable[str]:
    """Labels in turn and equally often, so that the rarer one is not outvoted."""
    longest = max(len(train[label]) for label in LABELS)
    for index in range(longest):
        for label in LABELS:
            yield f"{_PREFIX}{label} {train[label][index % len(train[label])]}"


def _measure_recall(model: Path, heldout: dict[str, list[str]]) -> dict[str, float]:
    """Recall of each label with its 95 % interval, and their mean: the balanced accuracy."""
    import fasttext

    loaded = fasttext.load_model(str(model))
    figures = {"accuracy": 0.0}
    for label in LABELS:
        predicted, _ = loaded.predict(heldout[label], k=1)
        right = sum(prediction[0] == _PREFIX + label for prediction in predicted)
        recall = proportion_interval(right, len(heldout[label]))
        figures |= {
            f"recall_{label}": round(recall.value, 6),
            f"recall_{label}_low": round(recall.low, 6),
            f"recall_{label}_high": round(recall.high, 6),
            f"heldout_{label}": float(recall.n),
        }
    figures["accuracy"] = round(sum(figures[f"recall_{label}"] for label in LABELS) / 2, 6)
    return figures
