"""Trains a fastText classifier that tells main text from boilerplate, line by line.

Text is learnt from the lines of documents, boilerplate from the navigation that extraction kept
apart. A corpus without navigation (plain text files) is contrasted with boilerplate as sites write
it (``common.py``); lines that the user labelled take the place of both.
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
from components.clean.boilerplate.fasttext_process import Fit, FitConfig, fit
from components.clean.boilerplate.page_lines import BOILERPLATE, LABELS, TEXT, feature, lines_of
from components.core.config.hashed_file import NamedFile
from components.core.config.stage_config import StageConfig
from components.core.errors import DataError
from components.core.io.atomic_write import write_atomically
from components.core.stats.figures import proportion_interval
from components.core.store.artifact import Classifier, Corpus, canonical
from components.core.store.shards import map_shards, read_all
from components.core.store.workdir import Workdir
from components.text.heldout_split import is_heldout

MODEL = "model.bin"
LINES = pa.schema([("label", pa.string()), ("line", pa.string()), ("pages", pa.int64())])
CLEARLY = 2
"""A line that stands on this many times more pages under one label than under the other has it."""
_PREFIX = "__label__"


class ClassifierConfig(StageConfig):
    """What the classifier learns from, and how good it must be."""

    labelled: tuple[NamedFile, ...] = Field(
        default=(),
        description="files of lines, __label__text or __label__boilerplate before each, used "
        "instead of the corpus's own",
    )
    max_lines: int = Field(
        default=12_000, ge=100, le=5_000_000, description="most different lines of one label"
    )
    min_boilerplate: int = Field(
        default=50,
        ge=1,
        description="with fewer different navigation lines, common boilerplate is added",
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
        default=20, ge=1, description="with fewer held-out lines of a label the floor is not asked"
    )
    fit: FitConfig = Field(default=FitConfig(), description="fastText's settings")


def train_classifier(config: ClassifierConfig, corpus: Corpus, work: Workdir) -> Classifier:
    """Learn ``model.bin`` and measure it on lines it has not seen (``classifier.json``).

    Raises:
        DataError: a label has no line, or the held-out accuracy is below ``min_accuracy``.
    """
    lines = _labelled(config) if config.labelled else _from_corpus(config, corpus, work)
    builtin = 0
    if not config.labelled and len(lines[BOILERPLATE]) < config.min_boilerplate:
        added = [line for line in _features(common_boilerplate()) if line not in lines[TEXT]]
        builtin = len(added)
        lines[BOILERPLATE] = _drawn({*lines[BOILERPLATE], *added}, config.max_lines)
    train, heldout = _split(config, lines)
    examples = work.scratch / "lines.txt"
    write_atomically(examples, "".join(f"{row}\n" for row in _rows(train)).encode())
    model = work.scratch / f"{os.getpid()}.bin"  # an orphan of a killed try writes its own
    work.progress.start(None, "lines")
    fit(Fit(**config.fit.model_dump(), lines=examples, model=model))
    figures = _measured(model, heldout)
    measured = min(figures[f"heldout_{label}"] for label in LABELS) >= config.min_heldout
    if measured and figures["accuracy"] < config.min_accuracy:
        raise DataError(
            f"classifier: held-out accuracy {figures['accuracy']:.3f} is below min_accuracy "
            f"{config.min_accuracy:g}; give labelled lines (classifier.labelled), or lower it"
        )
    model.replace(work.folder / MODEL)
    counts = {f"train_{label}": float(len(train[label])) for label in LABELS}
    found = {**figures, "builtin": float(builtin), **counts}
    record = {"labels": list(LABELS), **found}
    write_atomically(work.folder / "classifier.json", canonical(record))
    return work.seal(Classifier, stats=found)


def _from_corpus(config: ClassifierConfig, corpus: Corpus, work: Workdir) -> dict[str, list[str]]:
    """Different lines of each label. A page's name is text once and a menu's entry many times."""
    found = work.scratch / "lines"
    map_shards(work, work.path(corpus), lines_of_shard, into=found, most=config.max_lines)
    pages: dict[str, Counter[str]] = {label: Counter() for label in LABELS}
    for row in read_all(found).to_pylist():
        pages[row["label"]][row["line"]] += row["pages"]
    other = {TEXT: pages[BOILERPLATE], BOILERPLATE: pages[TEXT]}
    return {
        label: _drawn(
            (line for line, n in pages[label].items() if n >= CLEARLY * other[label][line]),
            config.max_lines,
        )
        for label in LABELS
    }


def lines_of_shard(table: pa.Table, most: int) -> pa.Table:
    """A sample of each label's lines in one shard, with the pages they stand on (in a worker).

    A line drawn from all shards together is also drawn from each shard that holds it, since
    lines rank by their own digest: the counts of the corpus's sample are whole.
    """
    rows: list[dict[str, object]] = []
    for label, column in ((TEXT, "text"), (BOILERPLATE, "navigation")):
        pages: Counter[str] = Counter()
        for page in table[column].to_pylist():
            pages.update(_features(lines_of(page)))
        rows.extend(
            {"label": label, "line": line, "pages": pages[line]} for line in _drawn(pages, most)
        )
    return pa.Table.from_pylist(rows, schema=LINES)


def _labelled(config: ClassifierConfig) -> dict[str, list[str]]:
    of: dict[str, set[str]] = {label: set() for label in LABELS}
    for given in config.labelled:
        rows = given.read("classifier.labelled").decode(errors="replace").splitlines()
        for number, row in enumerate(rows, start=1):
            label, _, line = row.partition(" ")
            if row.strip() and label.removeprefix(_PREFIX) not in LABELS:
                raise DataError(
                    f"{given.name}:{number}: begin with {_PREFIX}{TEXT} or {_PREFIX}{BOILERPLATE}"
                )
            if line.strip():
                of[label.removeprefix(_PREFIX)].update(_features([line]))
    both = of[TEXT] & of[BOILERPLATE]
    return {label: _drawn(of[label] - both, config.max_lines) for label in LABELS}


def _features(lines: Iterable[str]) -> set[str]:
    return {made for line in lines if (made := feature(line))}


def _drawn(lines: Iterable[str], most: int) -> list[str]:
    """At most ``most`` lines in the order of their digests: a sample no process order changes."""
    ranked = sorted(
        (hashlib.sha256(line.encode(errors="replace")).digest(), line) for line in lines
    )
    return [line for _, line in ranked[:most]]


def _split(
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


def _rows(train: dict[str, list[str]]) -> Iterable[str]:
    """Labels in turn and equally often, so that the rarer one is not outvoted."""
    longest = max(len(train[label]) for label in LABELS)
    for index in range(longest):
        for label in LABELS:
            yield f"{_PREFIX}{label} {train[label][index % len(train[label])]}"


def _measured(model: Path, heldout: dict[str, list[str]]) -> dict[str, float]:
    """Recall of each label with its 95 % interval, and their mean: the balanced accuracy."""
    import fasttext

    loaded = fasttext.load_model(str(model))
    figures = {"accuracy": 0.0}
    for label in LABELS:
        predicted, _ = loaded.predict(heldout[label], k=1)
        right = sum(found[0] == _PREFIX + label for found in predicted)
        recall = proportion_interval(right, len(heldout[label]))
        figures |= {
            f"recall_{label}": round(recall.value, 6),
            f"recall_{label}_low": round(recall.low, 6),
            f"recall_{label}_high": round(recall.high, 6),
            f"heldout_{label}": float(recall.n),
        }
    figures["accuracy"] = round(sum(figures[f"recall_{label}"] for label in LABELS) / 2, 6)
    return figures
