"""Learns ``article.json`` from pages whose text is known.

``python -m components.collect.fit FOLDER`` reads ``ground-truth.json`` and ``html/*.html.gz`` as
scrapinghub/article-extraction-benchmark has them, and writes the weights beside ``article.py``.
Trees are boosted with scikit-learn; runs weigh as much as their share of the page's text.
"""

from __future__ import annotations

import difflib
import gzip
import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from components.collect.article import WEIGHTS, Model, read_page, run_table
from components.collect.blocks import Ints
from components.collect.dom import parse_html
from components.collect.features import Matrix, Read
from components.collect.metadata import read_said
from components.collect.root import candidates, describe_boxes
from components.collect.textbytes import decode
from components.collect.trees import Trees

FOLDS = 3
"""Boxes whose runs are learnt from are chosen by a model that has not seen their site."""
BOXES = 3
"""So many of the best boxes of a page are learnt from: its runs as one would see them whose box was
chosen a little too wide or too narrow, which says more than copies without class words did."""
HEAVIEST = 0.25
"""No run weighs more than this share of the page's text, lest one long run is all of a page."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Example:
    """A page with the share of every run's words that belong to its text."""

    site: str
    read: Read
    picked: Ints
    boxes: Matrix
    truth: NDArray[np.float64]
    words: Ints

    @property
    def quality(self) -> NDArray[np.float64]:
        """How well each candidate holds the text: the mean of two F1, strict and lenient."""
        is_text = np.concatenate([[0], np.cumsum((self.truth > 0.5) * self.words)])
        words = np.concatenate([[0], np.cumsum(self.words)])
        first, last = self.read.first[self.picked], self.read.last[self.picked]
        right = is_text[last] - is_text[first]
        wrong = words[last] - words[first] - right
        missed = is_text[-1] - right
        strict = 2 * right / np.maximum(2 * right + wrong + missed, 1)
        lenient = 2 * right / np.maximum(2 * right + wrong / 2 + missed, 1)
        found: NDArray[np.float64] = (strict + lenient) / 2
        return found


def site_of(url: str) -> str:
    """The host without what sites put before their name."""
    parts = (urlsplit(url).hostname or url).split(".")
    count = 3 if len(parts[-1]) == 2 and len(parts[-2]) <= 3 else 2
    return ".".join(parts[-count:])


def fold_of(site: str, folds: int, partition: int = 0) -> int:
    """Where a site falls, the same in every run; each ``partition`` is drawn anew."""
    drawn = f"{partition}:{site}" if partition else site
    return int.from_bytes(hashlib.sha256(drawn.encode()).digest()[:4], "big") % folds


def example(text: str, truth: str, url: str) -> Example | None:
    """A page and its known text, aligned; None where it shows nothing."""
    root = parse_html(text)
    body = root.find("body") if root is not None else None
    read = read_page(body, read_said(root)) if body is not None else None
    if read is None:
        return None
    picked = candidates(read)
    shares, words = _align(read.blocks.texts(read.blocks.runs), truth)
    return Example(site_of(url), read, picked, describe_boxes(read, picked), shares, words)


def _align(texts: Sequence[str], truth: str) -> tuple[NDArray[np.float64], Ints]:
    """(share of every run's words found in order in ``truth``, number of its words)."""
    runs = [_WORD.findall(text) for text in texts]
    flat = [word for run in runs for word in run]
    matcher = difflib.SequenceMatcher(None, _WORD.findall(truth), flat, autojunk=False)
    lengths = np.zeros(len(flat))
    for _, start, size in matcher.get_matching_blocks():
        lengths[start : start + size] = size
    shares, place = [], 0
    for run in runs:
        found = lengths[place : place + len(run)]
        place += len(run)
        # Short matches are chance, unless they are all there is of a run.
        shares.append(float((found >= min(4, len(run))).mean()) if run else 0.0)
    return np.array(shares), np.array([len(run) for run in runs])


def fit(examples: Sequence[Example]) -> Model:
    """The model of these pages."""
    roots = _fit_roots(examples)
    folds = [fold_of(one.site, FOLDS) for one in examples]
    apart = [
        _fit_roots([one for one, at in zip(examples, folds, strict=True) if at != fold])
        for fold in range(FOLDS)
    ]
    tables, answers, weights = [], list[Any](), list[Any]()
    for one, fold in zip(examples, folds, strict=True):
        scores, quality = apart[fold].score(one.boxes), one.quality
        best = np.argsort(-scores, kind="stable")[:BOXES].tolist()
        picked = sorted({*best, int(quality.argmax())})
        whole = max(50.0, float((one.words * (one.truth > 0.5)).sum()))
        for index in picked:
            if quality[index] < 0.5 * quality.max():
                continue
            root = int(one.picked[index])
            begin, end = int(one.read.first[root]), int(one.read.last[root])
            tables.append(run_table(one.read, root, one.picked, scores))
            answers.append(one.truth[begin:end] > 0.5)
            shares = np.minimum(one.words[begin:end] / whole, HEAVIEST)
            weights.append((shares + 0.004) / len(picked))
    return Model(roots, _fit_keep(*map(np.concatenate, (tables, answers, weights))))


def _fit_roots(examples: Sequence[Example]) -> Trees:
    from sklearn.ensemble import HistGradientBoostingRegressor

    table = np.concatenate([one.boxes for one in examples])
    quality = np.concatenate([one.quality for one in examples])
    weights = np.concatenate([np.full(len(one.picked), 1 / len(one.picked)) for one in examples])
    model = HistGradientBoostingRegressor(
        max_iter=150,
        learning_rate=0.06,
        max_leaf_nodes=8,
        min_samples_leaf=15,
        l2_regularization=5,
        max_features=0.3,
        random_state=0,
    ).fit(table, quality, sample_weight=weights / weights.mean())
    return _flatten(model)


def _fit_keep(table: Matrix, answers: NDArray[np.bool_], weights: NDArray[np.float64]) -> Trees:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=100,
        learning_rate=0.08,
        max_leaf_nodes=10,
        min_samples_leaf=40,
        l2_regularization=5,
        max_features=0.3,
        random_state=0,
    ).fit(table, answers, sample_weight=weights / weights.mean())
    return _flatten(model)


def _flatten(model: Any) -> Trees:
    """scikit-learn's trees as ours."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("at", "column", "cut", "l", "r", "value")
    }
    depth = 0
    for (tree,) in model._predictors:
        nodes, start = tree.nodes, len(columns["column"])
        own = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        columns["at"].append(start)
        columns["column"] += np.where(leaf, 0, nodes["feature_idx"]).tolist()
        columns["cut"] += np.where(leaf, 0.0, nodes["num_threshold"]).tolist()
        columns["l"] += (np.where(leaf, own, nodes["left"]) + start).tolist()
        columns["r"] += (np.where(leaf, own, nodes["right"]) + start).tolist()
        columns["value"] += np.where(leaf, nodes["value"], 0.0).tolist()
        depth = max(depth, int(nodes["depth"].max()))
    told = {
        "base": float(np.ravel(model._baseline_prediction)[0]),
        "roots": columns["at"],
        "column": columns["column"],
        "threshold": columns["cut"],
        "left": columns["l"],
        "right": columns["r"],
        "value": columns["value"],
        "depth": depth,
    }
    return Trees.of_json(told)


def read_examples(folder: Path) -> dict[str, Example]:
    """Page id -> example, in the order of the ground truth."""
    truth = json.loads((folder / "ground-truth.json").read_bytes())
    found = {}
    for name, told in truth.items():
        text = decode(gzip.decompress((folder / "html" / f"{name}.html.gz").read_bytes()))
        one = example(text, told["articleBody"], told["url"])
        if one is not None:
            found[name] = one
    return found


def main() -> None:
    """Learn from all pages of a folder and write the weights."""
    model = fit(list(read_examples(Path(sys.argv[1])).values()))
    told = {"roots": model.roots.as_json(), "keep": model.keep.as_json()}
    raw = json.dumps(told, separators=(",", ":")).encode() + b"\n"
    WEIGHTS.write_bytes(raw)
    print(f'WEIGHTS_SHA256 = "{hashlib.sha256(raw).hexdigest()}"')


if __name__ == "__main__":
    main()
