"""Macro-F1 of language identification by line, on lines held out from the model's training.

A random half of each language's lines trains the model, the other half tests it. Macro-F1 is the
mean over languages of their F1; its interval resamples lines. The peer is a detector that needs no
training; it covers only some of the languages, so both are compared on those alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from resiliparse.parse.lang import detect_fast

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.udhr_lines import LANGUAGES, MIN_LETTERS, read_udhr_lines
from components.text.language_classifier import train_language_model

DATA = "languages/udhr.zip"
MIN_F1 = 0.95
RESAMPLES = 500
DETECTOR = "resiliparse's detector"


def measure_languages(setting: BenchSetting) -> list[BenchFigure]:
    """Macro-F1 on held-out lines, and beside the detector's on the languages that it names."""
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable("language: macro-F1", "", f"no reference data {DATA}")]
    training_lines: dict[str, list[str]] = {}
    test_lines: list[tuple[str, str]] = []
    for code, lines in read_udhr_lines(path).items():
        drawn = random.Random(code).sample(lines, len(lines))  # noqa: S311 - must repeat
        training_lines[code] = drawn[: len(drawn) // 2]
        test_lines += [(code, line) for line in drawn[len(drawn) // 2 :]]
    model = train_language_model(training_lines)
    truth = [code for code, _ in test_lines]
    ours = [model.likeliest(line) for _, line in test_lines]
    theirs = [_detect_language(line) for _, line in test_lines]
    value, note = macro_f1(truth, ours)
    known = set(theirs)
    common = [at for at, code in enumerate(truth) if code in known]
    common_truth = [truth[at] for at in common]
    our_f1, _ = macro_f1(common_truth, [ours[at] for at in common])
    detector_f1, _ = macro_f1(common_truth, [theirs[at] for at in common])
    name = f"language: macro-F1, {LANGUAGES} languages, lines of {MIN_LETTERS} letters or more"
    return [
        BenchFigure.against_target(name, value, "", MIN_F1, better="higher", note=note),
        BenchFigure.beside_peer(
            f"language: macro-F1, the {len(set(common_truth))} of them that the detector names",
            our_f1,
            "",
            DETECTOR,
            detector_f1,
            True,
            better="higher",
        ),
    ]


def _detect_language(line: str) -> str:
    detected: tuple[str, int] = detect_fast(line, cutoff=1_000_000)
    return detected[0]


def macro_f1(truth: Sequence[str], predicted: Sequence[str]) -> tuple[float, str]:
    """(macro-F1, its 95 % bootstrap interval as text), over the languages of ``truth``."""
    names = sorted({*truth, *predicted})
    number = {name: at for at, name in enumerate(names)}
    true_numbers = np.array([number[name] for name in truth])
    predicted_numbers = np.array([number[name] for name in predicted])
    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        rows = draw.integers(0, len(true_numbers), len(true_numbers))
        values.append(_mean_f1(true_numbers[rows], predicted_numbers[rows], len(names)))
    low, high = np.quantile(values, [0.025, 0.975])
    note = f"[{low:.4f}, {high:.4f}] of {len(true_numbers)} lines"
    return _mean_f1(true_numbers, predicted_numbers, len(names)), note


def _mean_f1(truth: NDArray[np.int64], predicted: NDArray[np.int64], languages: int) -> float:
    true_positives = np.bincount(truth[truth == predicted], minlength=languages)
    true_counts, predicted_counts = (
        np.bincount(truth, minlength=languages),
        np.bincount(predicted, minlength=languages),
    )
    occurs = true_counts > 0
    return float(
        (2 * true_positives[occurs] / (true_counts[occurs] + predicted_counts[occurs])).mean()
    )
