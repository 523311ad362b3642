"""Recall of planted evaluation items, and the share of clean documents flagged as contaminated.

Items: MMLU and GSM8K, as collected for decon. Background: speeches and a play in pieces of a page's
length, web documents, articles, and docstrings of the installed packages, one text a module; none
shares more than a fifth of its word 5-shingles with those before it. Each item is planted once per
edit into a piece of its own. An item found in the untouched background is a false alarm; the bound
applies to the upper end of the interval of their share. ``edited`` replaces a random tenth of the
words, at least one.
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
from benchmarks.curate.installed_documentation import drop_near_duplicates, read_docstrings
from components.clean.contamination.score import ContaminationConfig, score_contamination_shard
from components.core.config.hashed_file import HashedFile
from components.core.stats.figures import proportion_interval

SETS, PROSE, WEB = "contamination", "prose", "quality/majority_data.jsonl"
ARTICLES, PLAY = "extraction/ground-truth.json", "charlm/tinyshakespeare.txt"
DOCSTRING_TEXTS = 4500
"""Docstring texts in the background: enough for an interval that ends below MAX_FALSE_SHARE."""
PIECE_CHARACTERS = 2300
"""Length of a piece of background."""
MAX_FALSE_SHARE = 0.001

Edit = Callable[[str, str, random.Random, list[str]], str]


def _edit_words(question: str, answer: str, draw: random.Random, others: list[str]) -> str:
    words = f"{question} {answer}".split()
    for at in draw.sample(range(len(words)), max(1, round(len(words) / 10))):
        words[at] = draw.choice(others)
    return " ".join(words)


def _change_case(question: str, answer: str, draw: random.Random, _: list[str]) -> str:
    text = f"{question} {answer}"
    return draw.choice((text.upper(), text.lower(), text.title()))


EDITS: Mapping[str, tuple[Edit, float]] = {
    "verbatim": (lambda question, answer, *_: f"{question} {answer}", 0.99),
    "edited": (_edit_words, 0.95),
    "recased": (_change_case, 0.99),
    "question only": (lambda question, *_: question, 0.95),
}


def measure_contamination(setting: BenchSetting) -> list[BenchFigure]:
    """Recall of each edit, share of clean documents flagged as contaminated, documents a second."""
    references = [setting.find_reference(name) for name in (SETS, PROSE, WEB, ARTICLES, PLAY)]
    if None in references:
        return [BenchFigure.unavailable("contamination: recall", "", f"no reference data {SETS}")]
    sets, prose, *others = (path for path in references if path)
    files = sorted(sets.glob("*.jsonl.gz"))
    config = ContaminationConfig(sets=tuple(HashedFile.model_validate(str(f)) for f in files))
    pieces = _read_pieces(prose)
    docstrings = list(read_docstrings(DOCSTRING_TEXTS, PIECE_CHARACTERS // 3, 4 * PIECE_CHARACTERS))
    clean = drop_near_duplicates([*background_texts(pieces, *others), *docstrings])
    flag_contaminated(config, clean[:1])  # builds the index, which is not timed
    start = time.perf_counter()
    false_alarms = sum(flag_contaminated(config, clean))
    speed = len(clean) / (time.perf_counter() - start)
    share = proportion_interval(false_alarms, len(clean))
    modules = len(set(clean) & set(docstrings))
    note = (
        f"{false_alarms} of {len(clean)} distinct documents, {modules} of them documentation, "
        f"[{share.low:.5f}, {share.high:.5f}]"
    )
    name = "contamination: clean documents taken for contaminated, upper end"
    return [
        *_recall_figures(config, files, pieces),
        BenchFigure.against_target(name, share.high, "", MAX_FALSE_SHARE, note=note),
        BenchFigure("contamination: documents a second and core", speed, "/s", better="higher"),
    ]


def background_texts(pieces: list[str], web: Path, articles: Path, play: Path) -> list[str]:
    """Texts that hold no evaluation item.

    Args:
        pieces: pieces of speeches.
        web: JSON lines with a ``text`` each.
        articles: JSON object of articles with an ``articleBody`` each.
        play: text file, cut into pieces.
    """
    play_text = play.read_text(encoding="utf-8")
    article_rows = json.loads(articles.read_text(encoding="utf-8"))
    return [
        *pieces,
        *(json.loads(line)["text"] for line in web.read_text(encoding="utf-8").splitlines()),
        *(article["articleBody"] for article in article_rows.values()),
        *(
            play_text[at : at + PIECE_CHARACTERS]
            for at in range(0, len(play_text), PIECE_CHARACTERS)
        ),
    ]


def flag_contaminated(config: ContaminationConfig, texts: list[str]) -> list[bool]:
    """True for each text in which the contamination scorer finds an item."""
    table = pa.table({"id": [str(at) for at in range(len(texts))], "text": texts})
    return [count > 0 for count in score_contamination_shard(table, config)["items"].to_pylist()]


def _recall_figures(
    config: ContaminationConfig, files: list[Path], pieces: list[str]
) -> list[BenchFigure]:
    items = _read_items(files)
    others = sorted({word for piece in pieces[:200] for word in piece.split()})
    figures = []
    for edit_name, (edit, min_recall) in EDITS.items():
        draw = random.Random(edit_name)  # noqa: S311 - a benchmark that must repeat
        planted = []
        for question, answer in items.items():
            piece = draw.choice(pieces)
            at = draw.randrange(len(piece))
            text = edit(question, answer, draw, others)
            planted.append(f"{piece[:at]}\n\n{text}\n\n{piece[at:]}")
        recall = proportion_interval(sum(flag_contaminated(config, planted)), len(planted))
        note = f"[{recall.low:.4f}, {recall.high:.4f}] of {recall.n} items"
        name = f"contamination: recall, {edit_name}"
        figures.append(
            BenchFigure.against_target(
                name, recall.value, "", min_recall, better="higher", note=note
            )
        )
    return figures


def _read_items(files: list[Path]) -> dict[str, str]:
    """Question -> its right answer."""
    items: dict[str, str] = {}
    for file in files:
        for line in gzip.decompress(file.read_bytes()).decode().splitlines():
            row = json.loads(line)
            if row.get("is_correct") or row["question"] not in items:
                items[row["question"]] = row["answer"]
    return items


def _read_pieces(folder: Path) -> list[str]:
    pieces = []
    for path in sorted(folder.glob("*.zip")):
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.endswith(".txt")):
                text = archive.read(name).decode("latin-1")
                pieces += [
                    text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)
                ]
    return pieces
