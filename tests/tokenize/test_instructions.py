"""Questions are answered by the page they come from, and by no page of the other side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from components.core.errors import DataError
from components.core.store.artifact import Corpus, Tokens
from components.core.store.shards import read_shards, write_shard
from components.core.store.workdir import Workdir
from components.text.chat.question_wordings import WORDINGS
from components.text.heldout_split import heldout_pages
from components.tokenize.instructions import InstructionsConfig, make_instructions
from components.tokenize.page_questions import extract_questions, signature_parameters

Again = Callable[[], Workdir]


def split_of(corpus: Corpus, again: Again, share: float = 0.2) -> Tokens:
    """A Tokens artifact with nothing but its held-out pages."""
    work = again()
    table = read_shards(work.artifact_folder(corpus), ["id", "url", "text"])
    heldout = heldout_pages(table["url"].to_pylist(), share, 0)
    rows = [row for row in table.to_pylist() if row["url"] in heldout]
    write_shard(work.folder / "heldout.parquet", pa.Table.from_pylist(rows, schema=table.schema))
    return work.seal(Tokens)


def rows_of(folder: Path, split: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return rows


def test_an_api_page_gives_three_kinds(docs: Corpus, again: Again) -> None:
    tokens = split_of(docs, again)
    sealed = make_instructions(InstructionsConfig(), again(), docs, tokens)
    folder = again().artifact_folder(sealed)
    train, heldout = rows_of(folder, "train"), rows_of(folder, "heldout")
    heldout_ids = {row["id"] for row in rows_of(again().artifact_folder(tokens), "heldout")}
    assert {row["id"] for row in heldout} == heldout_ids
    assert not {row["id"] for row in train} & heldout_ids
    assert set(Counter(row["kind"] for row in train)) == {"describe", "module", "parameters"}
    of = {(row["subject"], row["kind"]): row for row in train + heldout}
    assert of["pkg.mod3.return_file_3", "describe"]["answer"] == (
        "Return the matrix of the file number 30."
    )
    assert of["pkg.mod3.return_file_3", "module"]["answer"] == (
        "`return_file_3` is in the module `pkg.mod3`."
    )
    assert of["pkg.mod3.return_file_3", "parameters"]["answer"] == (
        "`return_file_3` takes 2 parameters: `matrix` and `depth`."
    )
    assert of["pkg.mod3", "describe"]["answer"] == "Tools for the matrix of kind 3."
    assert all(len(row["answer"].split()) <= 40 and "``" not in row["answer"] for row in train)
    assert sealed.stats["train"] == len(train)


def test_pages_that_are_no_api(corpus_of: Callable[..., Corpus], again: Again) -> None:
    pages = [
        f"# Guide {n}\n\nThis guide shows how to bake bread number {n}.\n\n## Examples\n\nNot this "
        f"one at all.\n\n## Proving the dough {n}\n\nLeave it in a *warm* place for {n} hours. Wait."
        for n in range(8)
    ]
    corpus = corpus_of(pages)
    sealed = make_instructions(
        InstructionsConfig(min_heldout=0), again(), corpus, split_of(corpus, again)
    )
    rows = [
        row for s in ("train", "heldout") for row in rows_of(again().artifact_folder(sealed), s)
    ]
    assert len(rows) == 16
    proving = next(row for row in rows if row["subject"] == "Proving the dough 5")
    assert proving["answer"] == "Leave it in a warm place for 5 hours."
    assert "Proving the dough 5" in proving["question"]


def test_labels_numbers_and_change_logs_are_no_topics(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    pages = [
        f"# 28.{n} Serving {n} streams\n\nEach stream has a queue of its own, {n} deep.\n\n"
        f"## Caution\n\nNever serve more than {n} streams at once.\n\n"
        f"## Example 3\n\nThis example serves {n} streams of bytes.\n\n"
        f"## 28.2.16\n\nThe queues are emptied in order of age, {n} at once.\n\n"
        f"## v2.0.{n} (2024-05-01)\n\nThis release serves {n} streams.\n\n"
        f"### Faster queues\n\nQueues of {n} streams take half the time.\n\n"
        f"## Emptying queue {n}\n\nA queue is emptied in {n} seconds.\n\n"
        f"## Kurz gesagt\n\nEs gibt {n} Schlangen, je eine pro Strom."
        for n in range(1, 9)
    ]
    corpus = corpus_of(pages)
    sealed = make_instructions(
        InstructionsConfig(min_heldout=0), again(), corpus, split_of(corpus, again)
    )
    rows = [
        row for s in ("train", "heldout") for row in rows_of(again().artifact_folder(sealed), s)
    ]
    # "Kurz gesagt" is a heading of every page, each time with another sentence below
    assert {row["subject"].rstrip(" 12345678") for row in rows} == {
        *(f"Serving {n} streams" for n in range(1, 9)),
        "Emptying queue",
    }


def test_reserved_wordings_are_never_trained_on(docs: Corpus, again: Again) -> None:
    sealed = make_instructions(InstructionsConfig(), again(), docs, split_of(docs, again))
    rows = [
        row for s in ("train", "heldout") for row in rows_of(again().artifact_folder(sealed), s)
    ]
    assert len({row["question"].replace(row["subject"], "") for row in rows}) > 12
    trained = {wording for row in rows for wording in row["wordings"]}
    reserved = {wording for row in rows for wording in row["reworded"]}
    assert not trained & reserved
    for row in rows:
        assert row["question"] == row["wordings"][0]
        asked = [*row["wordings"], *row["reworded"]]
        assert len(set(asked)) == len(asked) >= 6
        shown = row["subject"].rpartition(".")[2] if row["kind"] == "module" else row["subject"]
        assert all(shown in wording for wording in asked)


def test_no_template_is_both_trained_and_reserved() -> None:
    trained = [template for both in WORDINGS.values() for template in both.trained]
    reserved = [template for both in WORDINGS.values() for template in both.reserved]
    assert len({*trained, *reserved}) == len(trained) + len(reserved)
    assert all(len(both.reserved) >= 2 for both in WORDINGS.values())


def test_a_known_answer_is_no_test(corpus_of: Callable[..., Corpus], again: Again) -> None:
    pages = [
        {
            "text": f"# pkg.m{n}\n\n## pkg.m{n}.get\n\n```python\ndef get(key)\n```\n\n"
            f"{'Return the value of a key.' if n % 2 else f'Return the value of key {n}.'}",
            "title": f"pkg.m{n}",
        }
        for n in range(6)
    ]
    corpus = corpus_of(pages)
    tokens = split_of(corpus, again, share=0.5)
    sealed = make_instructions(InstructionsConfig(min_heldout=0), again(), corpus, tokens)
    folder = again().artifact_folder(sealed)
    known = {(row["kind"], row["answer"]) for row in rows_of(folder, "train")}
    heldout = rows_of(folder, "heldout")
    assert heldout
    assert not {(row["kind"], row["answer"]) for row in heldout} & known
    assert sealed.stats["heldout_known"] > 0
    assert not [row for row in heldout if row["kind"] == "module"]  # "get" is in every module


def test_shared_docstrings_and_headings_are_left_out(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    body = "\n\n".join(
        f"## pkg.E{n}\n\n```python\nclass E{n}\n```\n\nCommon base class for all errors.\n\n"
        f"###### Notes\n\nThis one was added for case {n}.\n\n###### Parameters\n\nThe x of it."
        for n in range(9)
    )
    corpus = corpus_of([f"# pkg\n\n{body}\n\n## pkg.f\n\nGives back {n} of it." for n in (1, 2)])
    sealed = make_instructions(
        InstructionsConfig(min_heldout=0), again(), corpus, split_of(corpus, again)
    )
    rows = rows_of(again().artifact_folder(sealed), "train")
    described = [row["subject"] for row in rows if row["kind"] == "describe"]
    assert described == ["pkg.f"]


def test_caps_kinds_and_determinism(docs: Corpus, again: Again) -> None:
    tokens = split_of(docs, again)
    config = InstructionsConfig(kinds=("describe",), max_per_page=2)
    made = [make_instructions(config, again(), docs, tokens) for _ in range(2)]
    assert made[0].digest == made[1].digest
    train = rows_of(again().artifact_folder(made[0]), "train")
    assert set(Counter(row["id"] for row in train).values()) == {2}
    assert {row["kind"] for row in train} == {"describe"}


def test_nothing_to_ask(corpus_of: Callable[..., Corpus], again: Again) -> None:
    plain = corpus_of(["no heading here", "none here either"])
    with pytest.raises(DataError, match=r"0 of 1 training pages have a heading; .* under scrape"):
        make_instructions(InstructionsConfig(), again(), plain, split_of(plain, again))
    told = "This sentence of ten words tells what it is about."
    texts = [f"# The mill of number {n}\n\n{told}" for n in (1, 2)]
    headed = corpus_of([{"text": text, "headings": ["The mill"]} for text in texts])
    short = InstructionsConfig(max_answer_words=5)
    with pytest.raises(DataError, match=r"1 of 1 .* raise instructions\.max_answer_words"):
        make_instructions(short, again(), headed, split_of(headed, again))


def test_too_few_held_out_is_said_before_a_model_is_trained(
    corpus_of: Callable[..., Corpus], again: Again
) -> None:
    parts = "".join(f"\n\n## Part {n} of it\n\nPart {n} tells of the mill." for n in range(6))
    corpus = corpus_of([parts.replace("Part", f"Page {page} part") for page in range(4)])
    tokens = split_of(corpus, again, share=0.0001)
    with pytest.raises(DataError, match=r"1 of 4 pages are held out and give 6 questions on 1 "):
        make_instructions(InstructionsConfig(), again(), corpus, tokens)
    made = make_instructions(InstructionsConfig(min_heldout=0), again(), corpus, tokens)
    assert made.stats["heldout"] == 6


@pytest.mark.parametrize(
    ("signature", "expected"),
    [
        ("def f()", []),
        ("def f(self)", []),
        (
            "async def f(cls, a, /, b: int = 3, *args, c, **kw) -> str:",
            ["a", "b", "*args", "c", "**kw"],
        ),
        (
            "def f(\n    a: Callable[[int], str] = <function g>,\n    b=<object object>\n) -> None",
            ["a", "b"],
        ),
        ("def f(self, key, default=<unset>)", ["key", "default"]),
        ("class F", None),
        ("def f(a, ...", None),
    ],
)
def test_parameters(signature: str, expected: list[str] | None) -> None:
    assert signature_parameters(signature) == expected


def test_phrases_are_fixed_by_the_subject() -> None:
    page = "# m\n\n## m.a\n\n```python\ndef a()\n```\n\nReturn the first letter."
    first = list(extract_questions(page, "m", 40))
    assert first == list(extract_questions(page, "m", 40))
    assert {q.subject for q in first} == {"m.a"}
