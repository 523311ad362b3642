"""Recall of planted evaluation items, and the share of clean documents flagged as contaminated.

Items: MMLU and GSM8K, as collected for decon, the half on which no bound was chosen; and items of
other kinds (``contamination_items.py``). Background: speeches and a play in pieces of a page's
length, web documents, articles, pages of seven types, and docstrings of the installed packages, one
text a module; none shares more than a fifth of its word 5-shingles with those before it. Each item
is planted once per edit into a text of its own. An item found in the untouched background is a
false alarm; the bound applies to the upper end of the interval of their share.
"""

from __future__ import annotations

import gzip
import json
import random
import time
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.curate.contamination_edits import (
    EDITS,
    PEER_NGRAMS,
    list_ngrams,
    plant_items,
    share_flagged_by_ngrams,
)
from benchmarks.curate.contamination_items import (
    choose_answers,
    is_held_out,
    read_code_problems,
    read_declarations,
    read_rows,
    read_short_questions,
)
from benchmarks.curate.installed_documentation import drop_near_duplicates, read_docstrings
from components.clean.contamination.evaluation_items import read_evaluation_items
from components.clean.contamination.rule import ContaminationRule
from components.clean.contamination.score import (
    ContaminationConfig,
    score_contamination_shard,
    write_word_counts,
)
from components.clean.contamination.search_texts import SAMPLE_DOCUMENTS, count_document_words
from components.clean.selection_rule import ScoredShard
from components.core.config.hashed_file import HashedFile
from components.core.stats.figures import proportion_interval

SETS, PROSE, WEB = "contamination", "prose", "quality/majority_data.jsonl"
ARTICLES, PLAY = "extraction/ground-truth.json", "charlm/tinyshakespeare.txt"
PAGES, DECLARATIONS = "extraction-web/ground-truth.jsonl.gz", "languages/udhr.zip"
DOCSTRING_TEXTS = 9000
"""Docstring texts in the background: enough for an interval that ends below MAX_FALSE_SHARE."""
PIECE_CHARACTERS = 2300
"""Length of a piece of background."""
MAX_FALSE_SHARE = 0.001
MANY_ITEMS = 100_000
"""Items of the measurement of growth."""


@dataclass(frozen=True)
class ContaminationSearch:
    """The scorer with an evaluation set, words weighed by a corpus, and the rule's defaults."""

    config: ContaminationConfig
    counted: HashedFile

    @classmethod
    def build(
        cls, folder: Path, rows: Iterable[Mapping[str, object]], corpus: Sequence[str]
    ) -> ContaminationSearch:
        """Write the set and the counts of words that the scorer reads.

        Args:
            folder: new folder for both.
            rows: question and answer of each item.
            corpus: documents, of which the first are the sample.
        """
        folder.mkdir()
        file = folder / "items.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        config = ContaminationConfig(sets=(HashedFile.model_validate(str(file)),))
        items, _ = read_evaluation_items(config.sets, config.question, config.answer)
        counted = folder / "counts.parquet"
        write_word_counts(counted, count_document_words(items, corpus[:SAMPLE_DOCUMENTS]))
        return cls(config, HashedFile.model_validate(str(counted)))

    def flag_documents(self, texts: Sequence[str]) -> list[bool]:
        """True for each text that the rule would drop."""
        table = pa.table({"id": [str(at) for at in range(len(texts))], "text": list(texts)})
        scores = score_contamination_shard(table, self.config, self.counted)
        (finding,) = ContaminationRule().check_documents(
            ScoredShard(table, {"contamination": scores})
        )
        return [not passed for passed in finding.passed.tolist()]


def measure_contamination(setting: BenchSetting) -> list[BenchFigure]:
    """Recall of each edit, share of clean documents flagged as contaminated, documents a second."""
    names = (SETS, PROSE, DECLARATIONS, PAGES, WEB, ARTICLES, PLAY)
    references = [setting.find_reference(name) for name in names]
    if None in references:
        return [BenchFigure.unavailable("contamination: recall", "", f"no reference data {SETS}")]
    sets, prose, declarations, pages, *others = (path for path in references if path)
    pieces = _read_pieces(prose)
    documents = [*read_docstrings(DOCSTRING_TEXTS, PIECE_CHARACTERS // 3, 4 * PIECE_CHARACTERS)]
    texts = drop_near_duplicates([*background_texts(pieces, pages, *others), *documents])
    random.Random(0).shuffle(texts)  # noqa: S311 - a benchmark that must repeat
    clean = [text for text in texts if is_held_out(text)]
    bearers = [piece for piece in pieces if is_held_out(piece)]
    rows = read_rows(sorted(sets.glob("*.jsonl.gz")))
    search = ContaminationSearch.build(setting.scratch / "sets", rows, clean)
    items = choose_answers(rows)
    kinds = {
        "code problems": read_code_problems(),
        "questions of 5 to 10 words": read_short_questions(pages),
        "lines in 11 languages": read_declarations(declarations),
    }
    return [
        *(_recall_figure(search, items, edit, bearers) for edit in EDITS),
        *(
            _kind_figure(setting.scratch / f"kind{at}", kind, kinds[kind], clean, bearers)
            for at, kind in enumerate(kinds)
        ),
        *_clean_figures(search, items, clean, len(set(clean) & set(documents))),
        _growth_figure(setting.scratch / "many", texts, clean),
    ]


def background_texts(
    pieces: list[str], pages: Path, web: Path, articles: Path, play: Path
) -> list[str]:
    """Texts that hold no evaluation item.

    Args:
        pieces: pieces of speeches.
        pages: gzipped JSON lines of pages with a ``main_content`` each.
        web: JSON lines with a ``text`` each.
        articles: JSON object of articles with an ``articleBody`` each.
        play: text file, cut into pieces.
    """
    play_text = play.read_text(encoding="utf-8")
    article_rows = json.loads(articles.read_text(encoding="utf-8"))
    return [
        *pieces,
        *(
            json.loads(line)["main_content"] or "empty"
            for line in gzip.decompress(pages.read_bytes()).splitlines()
        ),
        *(json.loads(line)["text"] for line in web.read_text(encoding="utf-8").splitlines()),
        *(article["articleBody"] for article in article_rows.values()),
        *(
            play_text[at : at + PIECE_CHARACTERS]
            for at in range(0, len(play_text), PIECE_CHARACTERS)
        ),
    ]


def _recall_figure(
    search: ContaminationSearch, items: Mapping[str, str], edit: str, bearers: Sequence[str]
) -> BenchFigure:
    """Recall of one edit beside that of the n-gram rules."""
    planted = plant_items(items, edit, bearers)
    flags = search.flag_documents([document for *_, document in planted])
    recall = proportion_interval(sum(flags), len(flags))
    peers = {size: share_flagged_by_ngrams(planted, size) for size in PEER_NGRAMS}
    short, long = PEER_NGRAMS
    note = (
        f"[{recall.low:.4f}, {recall.high:.4f}] of {recall.n} unseen items; "
        f"any {long} words {peers[long]:.3f}"
    )
    figure = BenchFigure.against_target(
        f"contamination: recall, {edit}",
        recall.value,
        "",
        EDITS[edit][1],
        better="higher",
        note=note,
    )
    return replace(
        figure,
        peer=f"any shared {short} words",
        peer_value=peers[short],
        ratio=recall.value / peers[short] if peers[short] else None,
    )


def _kind_figure(
    folder: Path,
    kind: str,
    items: Mapping[str, str],
    corpus: Sequence[str],
    bearers: Sequence[str],
) -> BenchFigure:
    """Lowest recall of all edits for items of one kind."""
    rows = [{"question": question, "answer": answer} for question, answer in items.items()]
    search = ContaminationSearch.build(folder, rows, corpus)
    shares = {}
    for edit in EDITS:
        flags = search.flag_documents([text for *_, text in plant_items(items, edit, bearers)])
        shares[edit] = sum(flags) / len(flags)
    note = f"of {len(items)}; " + ", ".join(f"{edit} {share:.3f}" for edit, share in shares.items())
    name = f"contamination: recall, {kind}, lowest of all edits"
    return BenchFigure(name, min(shares.values()), "", better="higher", note=note)


def _clean_figures(
    search: ContaminationSearch, items: Mapping[str, str], clean: Sequence[str], modules: int
) -> list[BenchFigure]:
    """Share of clean documents flagged, beside the n-gram rules, and documents a second."""
    search.flag_documents(clean[:1])  # builds the index, which is not timed
    start = time.process_time()
    false_alarms = sum(search.flag_documents(clean))
    speed = len(clean) / (time.process_time() - start)
    share = proportion_interval(false_alarms, len(clean))
    peers = []
    for size in PEER_NGRAMS:
        grams = set[tuple[str, ...]]().union(
            *(list_ngrams(f"{question} {answer}", size) for question, answer in items.items())
        )
        flagged = sum(not grams.isdisjoint(list_ngrams(text, size)) for text in clean)
        peers.append(f"any {size} words flag {flagged}")
    note = (
        f"{false_alarms} of {len(clean)} distinct unseen documents, {modules} of them "
        f"documentation, [{share.low:.5f}, {share.high:.5f}]; {', '.join(peers)}"
    )
    name = "contamination: clean documents taken for contaminated, upper end"
    return [
        BenchFigure.against_target(name, share.high, "", MAX_FALSE_SHARE, note=note),
        BenchFigure("contamination: documents a second and core", speed, "/s", better="higher"),
    ]


def _growth_figure(folder: Path, texts: Sequence[str], clean: Sequence[str]) -> BenchFigure:
    """Documents a second with many items: halves of sentences of other documents, joined."""
    draw = np.random.default_rng(0)
    words = " ".join(text for text in texts if not is_held_out(text)).split()
    starts = draw.integers(0, len(words) - 30, size=(MANY_ITEMS, 2))
    rows = (
        {"question": " ".join([*words[first : first + 15], *words[second : second + 15]])}
        for first, second in starts.tolist()
    )
    search = ContaminationSearch.build(folder, rows, clean)
    start = time.process_time()
    search.flag_documents(clean[:1])
    built = time.process_time() - start
    sample = clean[:SAMPLE_DOCUMENTS]
    start = time.process_time()
    search.flag_documents(sample)
    speed = len(sample) / (time.process_time() - start)
    name = f"contamination: documents a second and core, {MANY_ITEMS:,} items of 30 words"
    return BenchFigure(name, speed, "/s", better="higher", note=f"index in {built:.1f} s")


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
