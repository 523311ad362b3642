"""Copies that near-duplicate detection finds, or does not see, by what was altered in them.

Pages of the reference data beside an altered copy of each, and the Universal Declaration of Human
Rights beside its translations; found is what reaches the default similarity by the exact Jaccard of
word 5-shingles, so that no figure hangs on the estimate. Without targets: they say what the measure
is for.
"""

from __future__ import annotations

import json
import random
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pyarrow as pa

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.clean.duplicates.rule import DuplicateRule
from components.text.dedup.shingles import jaccard_similarities, shingle_sets

PAGES, TRANSLATIONS = "quality/majority_data.jsonl", "languages/udhr.zip"
_WORDS = range(150, 1501)
"""Words of a page that is altered: shorter ones hang on a single change, longer ones on none."""
_ORIGINAL = "English-Latin1"
Pairs = list[tuple[str, str]]


def measure_altered_copies(setting: BenchSetting) -> list[BenchFigure]:
    """Share of altered copies at or above the default similarity, a figure a kind."""
    pages, translations = (setting.find_reference(name) for name in (PAGES, TRANSLATIONS))
    if pages is None or translations is None:
        return [BenchFigure.unavailable("altered copies found", "", f"no {PAGES}, {TRANSLATIONS}")]
    rows = [json.loads(line)["text"] for line in pages.read_text(encoding="utf-8").splitlines()]
    texts = [text for text in rows if len(text.split()) in _WORDS]
    draw = random.Random(1)  # noqa: S311 - a benchmark that must repeat
    kinds: dict[str, Pairs] = {
        kind: [(text, alter(text)) for text in texts]
        for kind, alter in _alterations(draw, texts).items()
    }
    kinds["one template, other numbers in every sentence"] = [
        (_fill_template(draw), _fill_template(draw)) for _ in texts
    ]
    with zipfile.ZipFile(translations) as archive:
        names = [name for name in archive.namelist() if name.endswith(("-UTF8", "-Latin1"))]
        versions = {
            name.rpartition("/")[2]: archive.read(name).decode("utf-8", "ignore") for name in names
        }
    original = versions.pop(_ORIGINAL)
    kinds["translations"] = [(original, version) for version in versions.values()]
    return [_found_share(kind, pairs) for kind, pairs in kinds.items()]


def _alterations(draw: random.Random, texts: list[str]) -> Mapping[str, Callable[[str], str]]:
    vocabulary = [word for text in texts for word in text.split()]

    def replace_words(text: str, share: float) -> str:
        words = text.split()
        return " ".join(draw.choice(vocabulary) if draw.random() < share else w for w in words)

    def shuffle_sentences(text: str) -> str:
        sentences = re.split(r"(?<=[.!?])\s+|\n+", text)
        draw.shuffle(sentences)
        return " ".join(sentences)

    return {
        "in capitals": str.upper,
        "every digit another": lambda text: re.sub(r"\d", lambda _: str(draw.randrange(10)), text),
        "2 % of words replaced": partial(replace_words, share=0.02),
        "5 % of words replaced": partial(replace_words, share=0.05),
        "10 % of words replaced": partial(replace_words, share=0.1),
        "sentences in another order": shuffle_sentences,
        "punctuation removed": lambda text: re.sub(r"[^\w\s]", "", text),
    }


def _fill_template(draw: random.Random) -> str:
    parts = ("valve", "pump", "filter", "sensor", "drive", "gauge", "relay", "clamp")
    return "\n".join(
        f"The {draw.choice(parts)} of series {draw.randrange(1000)} is rated for "
        f"{draw.randrange(900)} volts and weighs {draw.randrange(90)} kilograms."
        for _ in range(20)
    )


def _found_share(kind: str, pairs: Pairs) -> BenchFigure:
    count = len(pairs)
    column = pa.chunked_array(
        [pa.array([text for side in zip(*pairs, strict=True) for text in side])]
    )
    sets, bounds = shingle_sets(column, np.arange(2 * count))
    lefts, rights = np.arange(count), np.arange(count, 2 * count)
    similarities = jaccard_similarities(sets, bounds, lefts, rights)
    found = similarities >= DuplicateRule().max_similarity
    note = f"of {count} pairs; median similarity {np.median(similarities):.2f}"
    return BenchFigure(
        f"altered copies found: {kind}", float(found.mean()), "", better="higher", note=note
    )
