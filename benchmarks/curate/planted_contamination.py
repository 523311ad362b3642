"""Evaluation items planted into clean documents: how many are found again, and how many are not.

Items: MMLU and GSM8K, as collected for decon. Background: addresses and a play in pieces of a
page's length, web documents, articles, and the documentation of the installed packages, one text a
module; none shares more than a fifth of its word 5-shingles with those before it. Each item is
planted once a way into a piece of its own. What is found in the background as it was counts as
false; the upper end of its interval is held against the bound. ``edited`` replaces one word in ten,
by chance, one at least.
"""

from __future__ import annotations

import gzip
import json
import random
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.installed_documentation import distinct, documentation
from components.clean.contamination.score import ContaminationConfig, score_contamination_shard
from components.core.config.hashed_file import HashedFile
from components.core.stats.figures import proportion_interval

SETS, PROSE, WEB = "contamination", "prose", "quality/majority_data.jsonl"
ARTICLES, PLAY = "extraction/ground-truth.json", "charlm/tinyshakespeare.txt"
DOCUMENTED = 4500
"""Modules whose documentation is background: with the rest enough for an interval below FALSE."""
PIECE = 2300
"""Characters of a piece of background."""
FALSE = 0.001

Edit = Callable[[str, str, random.Random, list[str]], str]


def _edited(question: str, answer: str, draw: random.Random, others: list[str]) -> str:
    words = f"{question} {answer}".split()
    for at in draw.sample(range(len(words)), max(1, round(len(words) / 10))):
        words[at] = draw.choice(others)
    return " ".join(words)


def _recased(question: str, answer: str, draw: random.Random, _: list[str]) -> str:
    text = f"{question} {answer}"
    return draw.choice((text.upper(), text.lower(), text.title()))


WAYS: Mapping[str, tuple[Edit, float]] = {
    "verbatim": (lambda question, answer, *_: f"{question} {answer}", 0.99),
    "edited": (_edited, 0.95),
    "recased": (_recased, 0.99),
    "question only": (lambda question, *_: question, 0.95),
}


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """Recall of each way, the share of clean documents that are taken for contaminated, speed."""
    given = [setting.find_reference(name) for name in (SETS, PROSE, WEB, ARTICLES, PLAY)]
    if None in given:
        return [BenchFigure.unavailable("contamination: recall", "", f"no reference data {SETS}")]
    sets, prose, *others = (path for path in given if path)
    files = sorted(sets.glob("*.jsonl.gz"))
    config = ContaminationConfig(sets=tuple(HashedFile.model_validate(str(f)) for f in files))
    pieces = _pieces(prose)
    documented = list(documentation(DOCUMENTED, PIECE // 3, 4 * PIECE))
    clean = distinct([*background(pieces, *others), *documented])
    found(config, clean[:1])  # the index is made once, before the clock starts
    began = time.perf_counter()
    false = sum(found(config, clean))
    speed = len(clean) / (time.perf_counter() - began)
    share = proportion_interval(false, len(clean))
    modules = len(set(clean) & set(documented))
    note = (
        f"{false} of {len(clean)} distinct documents, {modules} of them documentation, "
        f"[{share.low:.5f}, {share.high:.5f}]"
    )
    name = "contamination: clean documents taken for contaminated, upper end"
    return [
        *_recalls(config, files, pieces),
        BenchFigure.against_target(name, share.high, "", FALSE, note=note),
        BenchFigure("contamination: documents a second and core", speed, "/s", better="higher"),
    ]


def background(pieces: list[str], web: Path, articles: Path, play: Path) -> list[str]:
    """Prose without an item."""
    spoken = play.read_text(encoding="utf-8")
    told = json.loads(articles.read_text(encoding="utf-8"))
    return [
        *pieces,
        *(json.loads(line)["text"] for line in web.read_text(encoding="utf-8").splitlines()),
        *(article["articleBody"] for article in told.values()),
        *(spoken[at : at + PIECE] for at in range(0, len(spoken), PIECE)),
    ]


def found(config: ContaminationConfig, texts: list[str]) -> list[bool]:
    """Whether each text holds an item."""
    table = pa.table({"id": [str(at) for at in range(len(texts))], "text": texts})
    return [count > 0 for count in score_contamination_shard(table, config)["items"].to_pylist()]


def _recalls(
    config: ContaminationConfig, files: list[Path], pieces: list[str]
) -> list[BenchFigure]:
    items = _items(files)
    others = sorted({word for piece in pieces[:200] for word in piece.split()})
    figures = []
    for way, (edit, demanded) in WAYS.items():
        draw = random.Random(way)  # noqa: S311 - a benchmark that must repeat
        planted = []
        for question, answer in items.items():
            piece = draw.choice(pieces)
            at = draw.randrange(len(piece))
            text = edit(question, answer, draw, others)
            planted.append(f"{piece[:at]}\n\n{text}\n\n{piece[at:]}")
        recall = proportion_interval(sum(found(config, planted)), len(planted))
        note = f"[{recall.low:.4f}, {recall.high:.4f}] of {recall.n} items"
        name = f"contamination: recall, {way}"
        figures.append(
            BenchFigure.against_target(name, recall.value, "", demanded, better="higher", note=note)
        )
    return figures


def _items(files: list[Path]) -> dict[str, str]:
    """Question -> its right answer."""
    items: dict[str, str] = {}
    for file in files:
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            row = json.loads(line)
            if row.get("is_correct") or row["question"] not in items:
                items[row["question"]] = row["answer"]
    return items


def _pieces(folder: Path) -> list[str]:
    pieces = []
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".txt")):
                text = archive.read(name).decode("latin-1")
                pieces += [text[at : at + PIECE] for at in range(0, len(text), PIECE)]
    return pieces
