"""How well languages are told apart, line by line, by a model that learnt from other lines.

A chance half of each language's lines is learnt from, the other half is asked. Macro-F1 is the mean
over languages of their F1; its interval resamples lines. The detector that needs no examples knows
some of the languages only, so it is also compared on those alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from resiliparse.parse.lang import detect_fast

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.udhr_lines import LARGEST, LEAST_LETTERS, udhr_lines
from components.text.language_classifier import train_language_model

DATA = "languages/udhr.zip"
DEMANDED = 0.95
RESAMPLES = 500
DETECTOR = "resiliparse's detector"


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """Macro-F1 on held-out lines, beside the detector's on the same lines."""
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable("language: macro-F1", "", f"no reference data {DATA}")]
    learnt: dict[str, list[str]] = {}
    asked: list[tuple[str, str]] = []
    for code, lines in udhr_lines(path).items():
        drawn = random.Random(code).sample(lines, len(lines))  # noqa: S311 - must repeat
        learnt[code] = drawn[: len(drawn) // 2]
        asked += [(code, line) for line in drawn[len(drawn) // 2 :]]
    model = train_language_model(learnt)
    truth = [code for code, _ in asked]
    ours = [model.likeliest(line) for _, line in asked]
    theirs = [_detected(line) for _, line in asked]
    value, note = macro_f1(truth, ours)
    known = set(theirs)
    common = [at for at, code in enumerate(truth) if code in known]
    of_common = [truth[at] for at in common]
    here, _ = macro_f1(of_common, [ours[at] for at in common])
    there, _ = macro_f1(of_common, [theirs[at] for at in common])
    name = f"language: macro-F1, {LARGEST} languages, lines of {LEAST_LETTERS} letters or more"
    return [
        BenchFigure.against_target(name, value, "", DEMANDED, better="higher", note=note),
        BenchFigure.beside_peer(
            f"language: macro-F1, the {len(set(of_common))} of them that the detector names",
            here,
            "",
            DETECTOR,
            there,
            True,
            better="higher",
        ),
    ]


def _detected(line: str) -> str:
    found: tuple[str, int] = detect_fast(line, cutoff=1_000_000)
    return found[0]


def macro_f1(truth: Sequence[str], said: Sequence[str]) -> tuple[float, str]:
    """(value, its 95 % interval as text), over the languages of ``truth``."""
    names = sorted({*truth, *said})
    number = {name: at for at, name in enumerate(names)}
    wanted = np.array([number[name] for name in truth])
    found = np.array([number[name] for name in said])
    draw = np.random.default_rng(0)
    values = []
    for _ in range(RESAMPLES):
        rows = draw.integers(0, len(wanted), len(wanted))
        values.append(_mean_f1(wanted[rows], found[rows], len(names)))
    low, high = np.quantile(values, [0.025, 0.975])
    note = f"[{low:.4f}, {high:.4f}] of {len(wanted)} lines"
    return _mean_f1(wanted, found, len(names)), note


def _mean_f1(wanted: NDArray[np.int64], found: NDArray[np.int64], names: int) -> float:
    right = np.bincount(wanted[wanted == found], minlength=names)
    given, said = np.bincount(wanted, minlength=names), np.bincount(found, minlength=names)
    asked = given > 0
    return float((2 * right[asked] / (given[asked] + said[asked])).mean())
