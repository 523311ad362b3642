"""Exact facts: told from near misses, drawn alike from like corpora, answered by a real model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from components.core.errors import ConfigError, DataError
from components.core.stats.figures import read_report, read_report_content
from components.core.stats.paired_difference import pair_items
from components.core.stats.report_items import read_items
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer
from components.core.store.shards import read_shard, write_shard
from components.core.store.workdir import Workdir
from components.evaluate.exact_facts import (
    Fact,
    FactsConfig,
    answer_facts,
    draw_facts,
    evaluate_facts,
    exact_figures,
    is_exact_answer,
)
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.question_wordings import word_question
from components.text.decoder_files import load_model, save_model
from models.decoder import Decoder
from tests.evaluate.speakers import seal_speaker, seal_tokenizer

CONFIG = FactsConfig(facts=8, max_new=40, batch=16)
TAKEN = ("`a`", "`b` and `*args`", "", "`key`, `value` and `**kw`")
Row = dict[str, Any]


def asked(form: str, kind: str, subject: str, shown: str, answer: str) -> Row:
    trained, reserved = word_question(form, subject, shown)  # type: ignore[arg-type]
    return {
        "kind": kind,
        "subject": subject,
        "question": trained[0],
        "answer": answer,
        "wordings": trained,
        "reworded": reserved,
    }


def rows_of(page: int) -> list[Row]:
    """Two functions of one module: where they are, what they take, what they do."""
    rows: list[Row] = []
    for name in (f"load{page}", f"dump{page}"):
        listed = TAKEN[(page + name.startswith("d")) % 4]
        count = listed.count("`") // 2
        takes = f"takes {'one parameter' if count == 1 else f'{count} parameters'}: {listed}."
        module = f"The `{name}` is in the module `kit.m{page}`."
        rows += [
            asked("module", "module", f"kit.m{page}.{name}", name, module),
            asked(
                "parameters",
                "parameters",
                f"kit.m{page}.{name}",
                f"m{page}.{name}",
                f"`{name}` {takes if count else 'takes no parameters.'}",
            ),
            asked("describe", "describe", f"kit.m{page}.{name}", name, f"Sorts {page} bytes."),
        ]
    return [{"id": f"page{page}", **row} for row in rows]


def sealed(root: Path, train: list[Row], heldout: list[Row]) -> Instructions:
    work = Workdir.temporary(root)
    write_shard(work.folder / "train.parquet", pa.Table.from_pylist(train))
    write_shard(work.folder / "heldout.parquet", pa.Table.from_pylist(heldout))
    return work.seal(Instructions)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("facts") / "store"


@pytest.fixture(scope="module")
def instructions(root: Path) -> Instructions:
    train = [row for page in range(3) for row in rows_of(page)]
    return sealed(root, train, [row for page in range(3, 5) for row in rows_of(page)])


@pytest.fixture(scope="module")
def tokenizer(root: Path, instructions: Instructions) -> Tokenizer:
    texts = [row[key] for row in rows_of(0) + rows_of(1) for key in ("question", "answer")]
    return seal_tokenizer(root, texts, 400)


@pytest.fixture(scope="module")
def learnt(root: Path, instructions: Instructions, tokenizer: Tokenizer) -> Checkpoint:
    """A model that knows by heart what the training pages' modules and first wordings are."""
    rows = [row for page in range(3) for row in rows_of(page)]
    turns = [(row["question"], row["answer"]) for row in rows]
    model = seal_speaker(root, tokenizer, turns, steps=150, width=66, context=128)
    assert read_shard(root / model.name / "curve.parquet")["loss"].to_pylist()[-1] < 0.02
    return model


def evaluate(root, model, instructions, tokenizer, config=CONFIG):
    work = Workdir.temporary(root)
    report = evaluate_facts(config, model, instructions, tokenizer, work)
    return report, root / report.name


def test_what_was_learnt_by_heart_is_exact_and_nothing_else(root, learnt, instructions, tokenizer):
    report, folder = evaluate(root, learnt, instructions, tokenizer)
    figures = read_report(folder)
    parts = ("modules", "parameters", "some_parameters")
    assert list(figures) == [
        name
        for group in ("trained", "reworded", "heldout")
        for name in (*(f"{group}_{part}" for part in parts), group)
    ]
    for name in ("trained_modules", "trained_parameters", "trained_some_parameters", "trained"):
        assert (figures[name].value, figures[name].low) == (1.0, 1.0)
    assert figures["heldout_modules"].value == 0  # kit.m3 is in no training page
    assert figures["heldout"].high < 0.8
    assert figures["trained"].n == 3  # pages, not facts
    assert list(report.stats)[:4] == ["seconds", "trained", "reworded", "heldout"]
    assert evaluate(root, learnt, instructions, tokenizer)[0].digest == report.digest


def test_the_examples_are_of_both_sides_and_of_mixed_kinds(root, learnt, instructions, tokenizer):
    examples = read_report_content(evaluate(root, learnt, instructions, tokenizer)[1])["examples"]
    assert [(one["group"], one["kind"]) for one in examples] == [
        (group, kind)
        for group in ("heldout", "trained")
        for kind in ("module", "parameters", "describe")
    ]
    for one in examples[3:]:
        assert one["exact"] is True
        assert one["answer"] == one["reference"]
    assert not examples[0]["exact"]


def test_items_make_the_figures_and_pair_two_versions(root, learnt, instructions, tokenizer):
    folder = evaluate(root, learnt, instructions, tokenizer)[1]
    items, figures = read_items(folder), read_report(folder)
    assert items is not None
    for name, values in items.values.items():
        weights = items.weights[np.isfinite(values)].sum()
        assert figures[name].value == pytest.approx(np.nansum(values) / weights)
    pairs = pair_items("trained_modules", items, items)
    assert (pairs.count, pairs.pages, pairs.difference("d").value) == (6, 3, 0.0)
    worse = replace(items, values={n: np.minimum(v, 0.0) for n, v in items.values.items()})
    assert pair_items("trained_modules", items, worse).difference("d").value == 1.0
    assert pair_items("heldout_modules", items, worse).count == 4


def test_a_corpus_of_topics_alone_has_examples_and_no_figure(root, learnt, tokenizer):
    topics = [
        {
            "id": f"guide{n}",
            **asked("topic", "describe", f"Part {n}", f"Part {n}", f"Part {n} tells of {n}."),
        }
        for n in range(12)
    ]
    made = sealed(root, topics[:6], topics[6:])
    report, folder = evaluate(root, learnt, made, tokenizer)
    assert read_report(folder) == {}
    examples = read_report_content(folder)["examples"]
    assert [one["kind"] for one in examples] == ["describe"] * 6
    assert report.stats["asked"] == 6


def test_no_question_at_all_gives_an_empty_report(root, learnt, tokenizer):
    described = [{"id": "p", **asked("topic", "describe", "Part", "Part", "Part tells.")}]
    none = FactsConfig(facts=8, max_new=40, examples=0)
    _, folder = evaluate(root, learnt, sealed(root, described, described), tokenizer, none)
    assert read_report(folder) == {}
    assert read_report_content(folder)["examples"] == []


def test_the_draw_is_stable_and_both_wordings_ask_the_same(root, instructions, tokenizer):
    opened = open_tokenizer(root / tokenizer.name)
    config = FactsConfig(facts=4)
    facts = draw_facts(config, root / instructions.name, opened, longest=90, half=None)
    trained, reworded = (
        [(fact.kind, fact.subject, fact.reference) for fact in facts if fact.group == group]
        for group in ("trained", "reworded")
    )
    assert reworded == [fact for fact in trained if fact[0] != "describe"]
    assert len(reworded) == 8
    questions = {group: {f.question for f in facts if f.group == group} for group in ("reworded",)}
    known = {wording for page in range(3) for row in rows_of(page) for wording in row["wordings"]}
    assert not questions["reworded"] & known
    changed = [row for page in (0, 1, 2, 9) for row in rows_of(page)]
    heldout = [row for page in range(3, 5) for row in rows_of(page)]
    again = draw_facts(
        config, root / sealed(root, changed, heldout).name, opened, longest=90, half=None
    )
    assert {fact for fact in again if fact.page != "page9"} <= set(facts)
    assert [fact for fact in again if fact.group == "heldout"] == [
        fact for fact in facts if fact.group == "heldout"
    ]
    assert len([fact for fact in again if fact.page != "page9"]) >= len(facts) // 2


def test_a_half_of_the_held_out_pages(root, tokenizer):
    heldout = [row for page in range(40) for row in rows_of(page)]
    made = sealed(root, rows_of(50), heldout)
    opened = open_tokenizer(root / tokenizer.name)
    halves = [
        {
            fact.page
            for fact in draw_facts(
                FactsConfig(facts=100), root / made.name, opened, longest=90, half=half
            )
            if fact.group == "heldout"
        }
        for half in ("choosing", "reporting", None)
    ]
    assert halves[0]
    assert halves[1]
    assert not halves[0] & halves[1]
    assert halves[0] | halves[1] == halves[2]


def test_instructions_that_somebody_else_wrote(root, learnt, tokenizer):
    """No wordings kept apart, other words: nothing is reworded, what cannot be read is not asked."""
    plain = [
        {key: value for key, value in row.items() if key not in ("wordings", "reworded")}
        for row in rows_of(0)
    ]
    plain.append({**plain[0], "answer": "It lives in kit."})
    work = Workdir.temporary(root)
    opened = open_tokenizer(root / tokenizer.name)
    made = sealed(root, plain, plain)
    facts = draw_facts(CONFIG, root / made.name, opened, longest=90, half=None)
    assert {fact.group for fact in facts} == {"trained", "heldout"}
    assert "It lives in kit." not in {fact.reference for fact in facts}
    answers = answer_facts(CONFIG, load_model(root / learnt.name), opened, facts)
    assert len(answers) == len(facts)
    write_shard(work.folder / "train.parquet", pa.Table.from_pylist(plain))
    write_shard(work.folder / "heldout.parquet", pa.table({"question": ["?"], "id": ["p"]}))
    with pytest.raises(DataError, match=r"heldout\.parquet: column 'kind' is missing"):
        draw_facts(CONFIG, work.folder, opened, longest=90, half=None)


def fact(kind: str, reference: str) -> Fact:
    return Fact("p", "trained", kind, "k.f", "?", reference, (1,), True)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "reference", "right", "wrong"),
    [
        (
            "module",
            "`f` is in the module `k.a`.",
            ["`f` is in the module `k.a`.", "It is in the module `k.a`"],
            [
                "`f` is in the module `k.ab`.",
                "`f` is in the module `k.a",
                "`f` is in the module `k.b`. It is in the module `k.a`.",
                "k.a",
                "",
            ],
        ),
        (
            "parameters",
            "`f` takes 2 parameters: `a` and `**kw`.",
            ["`f` takes 2 parameters: `a` and `**kw`.", "`g` takes 2 parameters: `a`, `**kw`"],
            [
                "`f` takes 2 parameters: `**kw` and `a`.",
                "`f` takes 3 parameters: `a`, `b` and `**kw`.",
                "`f` takes one parameter: `a`.",
                "`f` takes 2 parameters: `a` and `kw`.",
                "`f` takes no parameters.",
                "`f` takes 2 parameters: `a` and `**kw`. Also `c`.",
                "`f` takes 2 parameters: `a` and `**kw` or what you like.",
                "`f` takes no parameters. `f` takes 2 parameters: `a` and `**kw`.",
                "",
            ],
        ),
        (
            "parameters",
            "`f` takes no parameters.",
            ["`f` takes no parameters."],
            ["`f` takes one parameter: `a`.", "`f` takes parameters.", ""],
        ),
        ("describe", "Sorts bytes.", ["Sorts  bytes.", "Sorts bytes."], ["Sorts.", ""]),
    ],
)
def test_exact_is_all_of_it_in_order_and_nothing_else(kind, reference, right, wrong) -> None:
    assert [text for text in right if not is_exact_answer(fact(kind, reference), text)] == []
    assert [text for text in wrong if is_exact_answer(fact(kind, reference), text)] == []


def test_a_groups_figure_weighs_modules_and_parameter_lists_alike() -> None:
    many = [replace(fact("module", "m"), page=f"p{n}") for n in range(8)]
    few = [replace(fact("parameters", "m"), page=f"q{n}") for n in range(2)]
    figures = {f.name: f for f in exact_figures([*many, *few], [True] * 8 + [False] * 2)}
    assert figures["trained_modules"].value == 1.0
    assert figures["trained_parameters"].value == 0.0
    assert figures["trained"].value == pytest.approx(0.5)
    assert figures["trained"].low < 0.5 < figures["trained"].high
    assert "heldout" not in figures


def test_a_mistake_is_one_line(root, learnt, instructions, tokenizer):
    with pytest.raises(ConfigError, match=r"facts\.max_new \(128\) leaves no room .* 128: lower"):
        evaluate(root, learnt, instructions, tokenizer, FactsConfig())
    work = Workdir.temporary(root)
    save_model(work.folder, Decoder(replace(load_model(root / learnt.name).shape, vocabulary=500)))
    other = work.seal(Checkpoint)
    with pytest.raises(ConfigError, match=r"vocabulary of 500, .* are of different tokenizers"):
        evaluate(root, other, instructions, tokenizer)
