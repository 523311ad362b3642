"""Evaluation items are found where they stand, lightly edited too, and nowhere else."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.clean.contamination.approximate_match import build_index, find_matches, word_weights
from components.clean.contamination.score import ContaminationConfig, score_contamination
from components.clean.select import select
from components.core.config.hashed_file import HashedFile
from components.core.errors import DataError
from components.core.store.artifact import Corpus
from components.core.store.shards import read_shard, read_shards
from components.core.store.workdir import Workdir
from components.text.word_splitting import split_words
from flows.configs.text_run import TextSelectConfig

Again = Callable[[], Workdir]
ITEMS = [
    {
        "question": "A baker packs seven trays of twelve rolls each morning and sells all but nine. "
        "How many rolls does the baker sell in a week?",
        "answer": "He packs 84 rolls, sells 75 a day and 525 in a week.",
    },
    {
        "question": "Which of the following is true?",
        "answer": "Basalt cools quickly at the surface",
    },
    {"question": "Which enzyme unwinds the double helix?", "answer": "Helicase"},
]
FILLER = (
    "The committee met on a cold morning, and the members spoke at length about the roads of the "
    "county, the price of timber and the state of the harbour, before they went home for dinner. "
)


def file_of(folder: Path, rows: Sequence[Any], name: str = "set.jsonl") -> HashedFile:
    path = folder / name
    text = "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return HashedFile.model_validate(str(path))


def scored(
    corpus_of: Callable[..., Corpus], again: Again, config: ContaminationConfig, texts: list[str]
) -> list[dict[str, Any]]:
    """Rows in the order of ``texts``."""
    corpus = corpus_of(texts)
    scores = score_contamination(config, corpus, again())
    documents = read_shards(again().artifact_folder(corpus)).to_pylist()
    rows = dict(
        zip(
            (document["text"] for document in documents),
            read_shards(again().artifact_folder(scores)).to_pylist(),
            strict=True,
        )
    )
    return [rows[text] for text in texts]


def test_items_are_found_as_people_change_them(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS, "set.jsonl.gz"),))
    question, answer = ITEMS[0]["question"], ITEMS[0]["answer"]
    edited = question.replace("morning", "evening").replace("week", "month")
    found = scored(
        corpus_of,
        again,
        config,
        [
            f"{FILLER}{question} {answer} {FILLER}",
            f"{FILLER}{FILLER}{question.upper()}",
            f"{FILLER}{edited}\n{FILLER}",
            f"{FILLER}Which of the following is TRUE? Basalt cools quickly at the surface.",
            f"{FILLER}Which enzyme unwinds the double helix? {FILLER}",
        ],
    )
    assert [row["item"] for row in found] == [f"set.jsonl.gz:{n}" for n in (1, 1, 1, 2, 3)]
    assert [row["overlap"] for row in found[:2]] == [1.0, 1.0]
    assert 0.7 <= found[2]["overlap"] < 1
    text = f"{FILLER}{question} {answer} {FILLER}"
    assert text[found[0]["start"] : found[0]["end"]] == question.rstrip("?")


def test_clean_documents_hold_nothing(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS),))
    shuffled = split_words(ITEMS[0]["question"])
    random.Random(3).shuffle(shuffled)
    found = scored(
        corpus_of,
        again,
        config,
        [
            FILLER,
            "Which of the following is true? " + FILLER,
            "Which enzyme cuts the double strand? " + FILLER,
            " ".join(shuffled),
            "A baker packs seven trays each morning. " + FILLER * 9 + "He sells rolls in a week.",
        ],
    )
    assert [row["items"] for row in found] == [0] * 5
    assert [row["overlap"] for row in found] == [0.0] * 5


def test_select_drops_what_holds_one_and_names_it(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    corpus = corpus_of([FILLER * 3, FILLER + ITEMS[0]["question"]])
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS),))
    scores = score_contamination(config, corpus, again())
    assert scores.stats["contaminated"] == 1
    chosen = select(TextSelectConfig(), corpus, {"contamination": scores}, again())
    ledger = {
        r["url"]: r for r in read_shards(again().artifact_folder(chosen) / "ledger").to_pylist()
    }
    kept, dropped = (ledger[f"https://docs.example/000{n}"] for n in (0, 1))
    assert (kept["kept"], kept["item"]) == (True, None)
    assert dropped["reasons"] == ["contamination.overlap"]
    assert dropped["item"] == "set.jsonl:1"


def test_without_sets_every_document_passes(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    scores = score_contamination(ContaminationConfig(), corpus_of([FILLER]), work)
    assert (scores.stats["items"], scores.stats["contaminated"]) == (0, 0)
    assert read_shards(work.artifact_folder(scores))["overlap"].to_pylist() == [0.0]


def test_bad_rows_are_set_aside_with_a_reason(
    corpus_of: Callable[..., Corpus],
    work: Workdir,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [
        *ITEMS,
        "{broken",
        {"question": 7},
        {"question": " ?! "},
        ["list"],
        {"question": "Why?"},
    ]
    config = ContaminationConfig(sets=(file_of(tmp_path, rows),))
    scores = score_contamination(config, corpus_of([FILLER]), work)
    assert scores.stats["quarantined"] == 4
    assert (scores.stats["items"], scores.stats["items_too_short"]) == (4, 1)
    refused = read_shard(work.artifact_folder(scores) / "quarantine.parquet").to_pylist()
    assert [(row["row"], row["reason"]) for row in refused] == [
        ("set.jsonl:4", "is no JSON object"),
        ("set.jsonl:5", "has no text in field 'question'"),
        ("set.jsonl:6", "has an empty question"),
        ("set.jsonl:7", "is no JSON object"),
    ]
    told = "rows without an item: 4, the first: set.jsonl:4 is no JSON object"
    assert caplog.messages == [f"contamination.sets: {told}"]


def test_a_set_without_a_usable_row_is_an_error(
    corpus_of: Callable[..., Corpus], work: Workdir, tmp_path: Path
) -> None:
    config = ContaminationConfig(sets=(file_of(tmp_path, [{"prompt": "x"}]),))
    with pytest.raises(DataError, match=r"set\.jsonl holds no usable row: .*no text in field"):
        score_contamination(config, corpus_of([FILLER]), work)


def test_the_overlap_is_the_weight_of_what_stands_there_in_order() -> None:
    draw = random.Random(0)
    texts = [[f"w{draw.randrange(900)}" for _ in range(20)] for _ in range(300)]
    weights = word_weights(texts)
    index = build_index(texts, weights)
    edited = ["x", *texts[7][:5], "new", *texts[7][5:12], *texts[7][14:], "y"]
    (match,) = find_matches(index, [["a"], edited], 0.6)
    kept = [*texts[7][:12], *texts[7][14:]]
    expected = sum(weights[w] for w in kept) / sum(weights[w] for w in texts[7])
    assert (match.document, match.text) == (1, 7)
    assert match.overlap == pytest.approx(expected, abs=1e-6)
