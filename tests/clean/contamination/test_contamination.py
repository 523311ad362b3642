"""Evaluation items are found where they stand, lightly edited too, and nowhere else."""

from __future__ import annotations

import gzip
import json
import random
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from components.clean.contamination.rule import ContaminationRule
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


def found_items(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Item for which the rule with its defaults drops each document; empty where it keeps it."""
    rule = ContaminationRule()
    best = [
        max(row["matches"], key=rule.discount_overlap, default={"item": "", "overlap": 0})
        for row in rows
    ]
    return [m["item"] if rule.discount_overlap(m) > rule.max_overlap else "" for m in best]


def test_items_are_found_as_people_change_them(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS, "set.jsonl.gz"),))
    question, answer = ITEMS[0]["question"], ITEMS[0]["answer"]
    edited = question.replace("morning", "evening").replace("week", "month")
    first, second = question.split(". ")
    words = question.split()
    variants = {
        "verbatim": f"{question} {answer}",
        "edited": edited,
        "moved": f"{second} {answer} {first}.",
        "interrupted": f"{first}. {FILLER} {second}",
        "part": " ".join(words[: 3 * len(words) // 4]),
    }
    texts = [f"{FILLER}{text}\n{FILLER}" for text in (*variants.values(), question.upper())]
    rows = scored(corpus_of, again, config, texts)
    assert found_items(rows) == ["set.jsonl.gz:1"] * 6
    assert [row["matches"][0]["form"] for row in rows] == [*variants, "verbatim"]
    assert [row["matches"][0]["overlap"] for row in rows][::5] == [1.0, 1.0]
    assert 0.5 < rows[1]["matches"][0]["overlap"] < 1
    match = rows[0]["matches"][0]
    assert texts[0][match["start"] : match["end"]] == question.rstrip("?")


def test_short_questions_are_found_and_empty_ones_with_their_answer(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS),))
    texts = [
        f"{FILLER}Which of the following is TRUE? Basalt cools quickly at the surface.",
        f"{FILLER}Basalt cools quickly at the surface. Which of the following is true?",
        f"{FILLER}Which enzyme unwinds the double helix? {FILLER}",
    ]
    rows = scored(corpus_of, again, config, texts)
    assert found_items(rows) == ["set.jsonl:2", "set.jsonl:2", "set.jsonl:3"]
    assert rows[1]["matches"][0]["form"] == "moved"


OPTIONS = {
    "question": "Which of these rocks forms from slowly cooling magma?",
    "answer": ["Granite below a volcano", "Slate in a valley", "Chalk from shells of plankton"],
}
PROMPT = (
    'def rolling_total(values: list[int], width: int) -> list[int]:\n    """Sums of every window of '
    "width neighbours in values; an empty list where the window is wider.\n    >>> "
    'rolling_total([4, 1, 7], 2)\n    [5, 8]\n    """\n'
)


@pytest.mark.parametrize(
    ("row", "variant", "form"),
    [
        (OPTIONS, " A) {2} B) {0} C) {1}", "edited"),
        ({"question": PROMPT}, "", "verbatim"),
        ({"question": PROMPT}, None, "edited"),
    ],
)
def test_options_and_code_are_found(
    corpus_of: Callable[..., Corpus],
    again: Again,
    tmp_path: Path,
    row: dict[str, Any],
    variant: str | None,
    form: str,
) -> None:
    if variant is None:
        text = row["question"].replace("values", "numbers")
    else:
        text = row["question"] + variant.format(*row.get("answer", ()))
    config = ContaminationConfig(sets=(file_of(tmp_path, [row]),))
    (result,) = scored(corpus_of, again, config, [f"{FILLER}\n\n{text}\n\n{FILLER}"])
    assert found_items([result]) == ["set.jsonl:1"]
    assert result["matches"][0]["form"] in (form, "verbatim")


LANGUAGES = {
    "Hindi": "एक किसान सोमवार को बारह टोकरी आम बेचता है और मंगलवार को उससे दुगुनी, कुल कितनी टोकरी बिकी?",
    "Chinese": "小明有十二个苹果，他把其中的三分之一送给妹妹，又买了五个，请问他现在一共有多少个苹果？",
    "Thai": "ชาวนาขายมะม่วงสิบสองตะกร้าในวันจันทร์และขายเป็นสองเท่าในวันอังคาร รวมขายได้กี่ตะกร้า",
    "French": "Une fermière récolte douze paniers de pêches le lundi et deux fois plus le mardi.",
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_items_of_other_scripts_are_found(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path, language: str
) -> None:
    question = LANGUAGES[language]
    config = ContaminationConfig(sets=(file_of(tmp_path, [{"question": question}]),))
    half = len(question) // 2
    others = [text for name, text in LANGUAGES.items() if name != language]
    texts = [
        f"{FILLER}{unicodedata.normalize('NFD', question)} {FILLER}",
        f"{FILLER}{question[: 3 * len(question) // 4]} {FILLER}",
        f"{question[half:]}。 {FILLER[:60]} {question[:half]}。 {FILLER}",
        FILLER.join(others),
    ]
    rows = scored(corpus_of, again, config, texts)
    assert found_items(rows) == ["set.jsonl:1"] * 3 + [""]
    assert rows[0]["matches"][0]["form"] == "verbatim"


def test_long_prompts_are_found_in_part_and_out_of_order(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    draw = random.Random(9)
    paragraphs = [
        " ".join(f"{draw.choice('bdfgklmnprst')}o{draw.randrange(800)}" for _ in range(90))
        for _ in range(40)
    ]
    config = ContaminationConfig(sets=(file_of(tmp_path, [{"question": "\n".join(paragraphs)}]),))
    shuffled = draw.sample(paragraphs, len(paragraphs))
    texts = ["\n".join(paragraphs[:30]), "\n".join(shuffled), "\n".join(paragraphs[:6])]
    rows = scored(corpus_of, again, config, texts)
    assert found_items(rows) == ["set.jsonl:1", "set.jsonl:1", ""]


def test_clean_documents_hold_nothing(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    matrix = {"question": "What is the rank of the matrix A = [1 1 1 1 1] [1 1 1 1 1] [1 1 1 1 1]?"}
    config = ContaminationConfig(sets=(file_of(tmp_path, [*ITEMS, matrix]),))
    shuffled = split_words(ITEMS[0]["question"])
    random.Random(3).shuffle(shuffled)
    rows = scored(
        corpus_of,
        again,
        config,
        [
            FILLER,
            "Which of the following is true? " + FILLER,
            "Which enzyme cuts the double strand? " + FILLER,
            " ".join(shuffled),
            "A baker packs seven trays each morning. " + FILLER * 9 + "He sells rolls in a week.",
            f"{FILLER} The weights are 1 1 1 in the first row. {FILLER}",
        ],
    )
    assert found_items(rows) == [""] * 6


def test_phrases_that_the_corpus_is_full_of_say_little(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    phrase = "Where do visitors find opening hours?"
    config = ContaminationConfig(sets=(file_of(tmp_path, [{"question": phrase}]),))
    page = f"{phrase} {FILLER}"
    (rare, _) = scored(corpus_of, again, config, [page, FILLER])
    common = scored(corpus_of, again, config, [f"{page} {number}" for number in range(1500)])
    assert found_items([rare, common[0]]) == ["set.jsonl:1", ""]


def test_select_drops_what_holds_one_and_names_it(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    question = ITEMS[0]["question"]
    corpus = corpus_of([FILLER * 3, FILLER + question])
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS),))
    scores = score_contamination(config, corpus, again())
    assert scores.stats["documents_with_items"] == 1
    chosen = select(TextSelectConfig(), corpus, {"contamination": scores}, again())
    ledger = {
        r["url"]: r for r in read_shards(again().artifact_folder(chosen) / "ledger").to_pylist()
    }
    kept, dropped = (ledger[f"https://docs.example/000{n}"] for n in (0, 1))
    assert (kept["kept"], kept["item"]) == (True, None)
    assert dropped["reasons"] == ["contamination.overlap"]
    assert (dropped["item"], dropped["item_form"]) == ("set.jsonl:1", "verbatim")
    start = len(FILLER)
    assert (dropped["item_start"], dropped["item_end"]) == (start, start + len(question) - 1)
    assert (kept["item_form"], kept["item_start"]) == (None, None)


def match_of(overlap: float, information: float, longest_run: float = 3) -> dict[str, float]:
    return {"overlap": overlap, "information": information, "longest_run": longest_run}


@pytest.mark.parametrize(
    ("match", "dropped"),
    [
        (match_of(0.55, 2.5), True),
        (match_of(0.5, 9), False),
        (match_of(0.75, 1.65), False),  # half-way between least and full: the bound is 0.75
        (match_of(0.76, 1.65), True),
        (match_of(0.55, 1, longest_run=6), True),
        (match_of(0.55, 1, longest_run=5.5), False),
        (match_of(1, 0.8, longest_run=9), False),
    ],
)
def test_less_information_asks_for_more_of_the_item(match: dict[str, float], dropped: bool) -> None:
    rule = ContaminationRule()
    assert (rule.discount_overlap(match) > rule.max_overlap) is dropped


def test_a_rule_without_room_for_its_bound_is_an_error() -> None:
    with pytest.raises(ValueError, match="least_information must be smaller than full_information"):
        ContaminationRule(least_information=2, full_information=2)


def test_without_sets_every_document_passes(
    corpus_of: Callable[..., Corpus], work: Workdir
) -> None:
    scores = score_contamination(ContaminationConfig(), corpus_of([FILLER]), work)
    assert (scores.stats["items"], scores.stats["documents_with_items"]) == (0, 0)
    assert read_shards(work.artifact_folder(scores))["matches"].to_pylist() == [[]]


def test_equal_inputs_give_equal_bytes(
    corpus_of: Callable[..., Corpus], again: Again, tmp_path: Path
) -> None:
    corpus = corpus_of([f"{FILLER}{ITEMS[0]['question']}", FILLER])
    config = ContaminationConfig(sets=(file_of(tmp_path, ITEMS),))
    assert score_contamination(config, corpus, again()).digest == (
        score_contamination(config, corpus, again()).digest
    )


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
