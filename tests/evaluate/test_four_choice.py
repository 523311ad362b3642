"""The four-choice task: fair questions, the rule as told, and a model that knows wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer as Words
from tokenizers import models, pre_tokenizers

from components.core.errors import ConfigError
from components.core.stats.figures import read_report, read_report_content
from components.core.stats.report_items import read_items
from components.core.store.artifact import Checkpoint, Instructions, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.evaluate.four_choice import (
    ChoiceConfig,
    draw_questions,
    evaluate_choice,
    rank_right_answers,
)
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.decoder_files import save_model
from models.decoder import Decoder
from models.shape import DecoderShape

VOCABULARY = 256 + len(HOUSE_TOKENS)
SHAPE = DecoderShape(
    vocabulary=VOCABULARY, width=32, layers=2, heads=2, kv_heads=1, head_width=16, hidden=64
)
LETTERS = "abcdefghijklmnop"


def rows() -> list[dict[str, Any]]:
    """Function fX is described by its own letter: a description that a small model can learn."""
    return [
        {
            "id": f"{index // 4:032x}",
            "url": "https://docs.example/",
            "kind": "describe",
            "subject": f"m.{letter}",
            "question": f"{letter}?",
            "answer": letter * 2,
        }
        for index, letter in enumerate(LETTERS)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def tokenizer(store: Path) -> Tokenizer:
    work = Workdir.temporary(store)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = Words(models.BPE({t: i for i, t in enumerate([*HOUSE_TOKENS, *letters])}, []))
    words.add_special_tokens(list(HOUSE_TOKENS))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.save(str(work.folder / "tokenizer.json"))
    return work.seal(Tokenizer)


def sealed_instructions(store: Path, given: list[dict[str, Any]]) -> Instructions:
    work = Workdir.temporary(store)
    table = pa.Table.from_pylist(given, schema=pa.Table.from_pylist(rows()).schema)
    write_shard(work.folder / "heldout.parquet", table)
    return work.seal(Instructions)


def sealed(store: Path, model: Decoder) -> Checkpoint:
    work = Workdir.temporary(store)
    save_model(work.folder, model)
    return work.seal(Checkpoint)


def untrained(shape: DecoderShape = SHAPE) -> Decoder:
    torch.manual_seed(0)
    return Decoder(shape)


def test_candidates_differ_and_come_from_other_pages() -> None:
    asked = draw_questions(rows(), ChoiceConfig())
    assert len(asked) == len(LETTERS)
    for right, wrong in asked:
        assert len({row["answer"] for row in (right, *wrong)}) == 4
        assert all(row["id"] != right["id"] for row in wrong)


def test_the_harder_task_stays_on_the_page() -> None:
    for right, wrong in draw_questions(rows(), ChoiceConfig(wrong="same_page")):
        assert all(row["id"] == right["id"] for row in wrong)


def test_a_twin_in_words_or_name_is_no_wrong_answer() -> None:
    twins = rows()
    twins[5]["answer"] = twins[0]["answer"]
    twins[9]["subject"] = "other." + twins[0]["subject"].rpartition(".")[2]
    for seed in range(8):
        for right, wrong in draw_questions(twins, ChoiceConfig(seed=seed)):
            assert len({row["answer"] for row in (right, *wrong)}) == 4
            assert len({row["subject"].rpartition(".")[2] for row in (right, *wrong)}) == 4


def test_the_draw_is_seeded_and_bounded() -> None:
    one, two = (draw_questions(rows(), ChoiceConfig(questions=5)) for _ in range(2))
    assert one == two
    assert len(one) == 5
    assert one != draw_questions(rows(), ChoiceConfig(questions=5, seed=1))


def test_a_changed_page_leaves_most_questions_as_they_were() -> None:
    many = [
        {**row, "subject": f"m{n}.{row['subject'][2:]}{n}", "answer": f"{row['answer']}{n}"}
        for n in range(12)
        for row in rows()
    ]
    many = [{**row, "id": f"{index // 4:032x}"} for index, row in enumerate(many)]

    def asked(given: list[dict[str, Any]]) -> set[tuple[str, ...]]:
        return {
            (right["answer"], *sorted(row["answer"] for row in wrong))
            for right, wrong in draw_questions(given, ChoiceConfig())
        }

    before, after = asked(many), asked(many[4:])
    assert len(before & after) > 0.85 * len(before)


def test_each_rule_ranks_as_it_says() -> None:
    asked, neutral = [-4.0, -3.0, -9.0, -9.0], [-9.0, -2.0, -9.0, -9.0]
    scores = np.array([*asked, *neutral])
    lengths = np.array([4, 1, 4, 4] * 2)
    assert rank_right_answers(scores, lengths, "pmi").tolist() == [True]
    assert rank_right_answers(scores, lengths, "likelihood").tolist() == [False]
    assert rank_right_answers(scores, lengths, "per_token").tolist() == [True]
    assert rank_right_answers(np.zeros(8), lengths, "pmi").tolist() == [False]  # a tie is no answer


def test_a_model_that_knows_wins(store: Path, tokenizer: Tokenizer) -> None:
    words = open_tokenizer(store / tokenizer.name)
    model = untrained()
    ids = torch.tensor(
        [
            [*words.encode_question(row["question"]), *words.encode_text(row["answer"])]
            for row in rows()
        ]
    )
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        logits = model(ids[:, :-1])[:, -2:]
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, -2:].flatten()).backward()
        optimiser.step()
        optimiser.zero_grad()
    instructions = sealed_instructions(store, rows())
    config = ChoiceConfig(precision="float32")
    found, kept = {}, {}
    for name, one in (("knows", model), ("guesses", untrained())):
        made = evaluate_choice(
            config, sealed(store, one), instructions, tokenizer, Workdir.temporary(store)
        )
        found[name] = read_report(store / made.name)["four_choice_accuracy"]
        assert read_report_content(store / made.name)["rule"] == "pmi"
        items = read_items(store / made.name)
        assert items is not None
        kept[name] = set(items.keys)
        hits = items.values["four_choice_accuracy"]
        assert found[name].value == pytest.approx(hits.mean())
        assert set(items.pages) == {row["id"] for row in rows()}
    assert found["knows"].value > 0.9
    assert found["guesses"].value < 0.8
    assert found["knows"].low > 0.25
    assert found["knows"].n == len(LETTERS)
    assert kept["knows"] == kept["guesses"]


def test_too_few_descriptions_measure_nothing_and_say_so(store: Path, tokenizer: Tokenizer) -> None:
    for some in (rows()[:2], []):
        few = sealed_instructions(store, some)
        made = evaluate_choice(
            ChoiceConfig(), sealed(store, untrained()), few, tokenizer, Workdir.temporary(store)
        )
        figure = read_report(store / made.name)["four_choice_accuracy"]
        # No gate that asks for skill is passed by it, and none that asks for no harm is failed.
        assert (figure.value, figure.low, figure.high, figure.n) == (0.25, 0.0, 1.0, 0)
        why = read_report_content(store / made.name)["unmeasured"]
        assert why.startswith(f"{len(some)} held-out descriptions on ")
        assert "raise tokens.heldout_share" in why
        assert read_items(store / made.name) is None
        assert made.stats["questions"] == 0


def test_another_vocabulary_is_refused(store: Path, tokenizer: Tokenizer) -> None:
    model = sealed(store, untrained(DecoderShape(**{**SHAPE.__dict__, "vocabulary": 300})))
    with pytest.raises(ConfigError, match=r"of 300, .*of 261, .* different tokenizers"):
        evaluate_choice(
            ChoiceConfig(),
            model,
            sealed_instructions(store, rows()),
            tokenizer,
            Workdir.temporary(store),
        )
