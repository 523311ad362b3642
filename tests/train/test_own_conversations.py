"""Fine-tuning on a team's own conversations: every turn of the assistant, by weight and in order."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from components.core.errors import DataError
from components.core.store.artifact import Instructions, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.train.data.conversations import BatchPhases, Conversations
from components.train.sft import (
    FinetuneConfig,
    conversation_micro_batches,
    finetune,
    order_conversations,
)
from tests.train.conftest import sealed_model

TURNS = [("system", "Be brief."), ("user", "Why?"), ("assistant", "So."), ("user", "And?"), ("assistant", "Then.")]  # fmt: skip


def chat(turns: Sequence[tuple[str, str]] = TURNS) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def add_own(folder: Path, conversations: Sequence[list[dict[str, Any]]]) -> Path:
    """Own conversations beside the questions of a folder of instructions."""
    rows = [
        {"id": f"{n:032x}", "kind": "conversation", "messages": json.dumps(turns), "tools": None}
        for n, turns in enumerate(conversations)
    ]
    schema = pa.schema([(name, pa.string()) for name in ("id", "kind", "messages", "tools")])
    write_shard(folder / "train.conversations.parquet", pa.Table.from_pylist(rows, schema=schema))
    return folder


@pytest.fixture
def folder(store: Path, instructions: Instructions) -> Path:
    """60 questions and 10 own conversations of two answers each."""
    own = [chat([*TURNS, ("user", f"{n}?"), ("assistant", f"Own {n}.")]) for n in range(10)]
    target = store / "mixed"
    target.mkdir()
    (target / "train.parquet").write_bytes(
        (store / instructions.name / "train.parquet").read_bytes()
    )
    return add_own(target, own)


def test_all_turns_of_the_assistant_are_targets_and_nothing_else(
    folder: Path, store: Path, tokenizer: Tokenizer
) -> None:
    words = open_tokenizer(store / tokenizer.name)
    read = Conversations(folder, store / tokenizer.name, longest=200, kinds=("conversation",))
    own = read.epoch_conversations(0)
    assert read.count == len(own) == 10
    [micro] = conversation_micro_batches([own[3]], 1000)
    learnt = micro.targets[0][micro.answer[0] > 0].tolist()
    text = words.backend.decode(learnt, skip_special_tokens=False)
    assert text == "So.<|end|>Then.<|end|>Own 3.<|end|>"


@pytest.mark.parametrize(("weight", "seen"), [(0.0, 0), (1.0, 10), (3.0, 30), (0.5, 5), (2.5, 25)])
def test_a_weight_is_the_number_of_times_a_conversation_is_seen(
    folder: Path, store: Path, tokenizer: Tokenizer, weight: float, seen: int
) -> None:
    read = Conversations(folder, store / tokenizer.name, longest=200, own_weight=weight)
    assert len(read.epoch_conversations(0)) == 60 + seen
    total = Counter(tuple(e.ids) for epoch in range(4) for e in read.choose_own(epoch))
    assert set(total.values()) == ({round(4 * weight)} if weight else set())


def test_own_conversations_come_last_where_they_shall(
    folder: Path, store: Path, tokenizer: Tokenizer
) -> None:
    read = Conversations(folder, store / tokenizer.name, longest=200)
    own = {tuple(example.ids) for example in read.choose_own(0)}
    config = FinetuneConfig(batch=512, longest=200, epochs=2, own_last=True)
    batches = order_conversations(config, read, "ab" * 32)
    assert isinstance(batches, BatchPhases)
    steps = 2 * batches.batches_per_epoch
    shares = [
        sum(tuple(example.ids) in own for example in batches.batch(step)) / len(batches.batch(step))
        for step in range(steps)
    ]
    assert shares == sorted(shares)
    assert set(shares) == {0.0, 1.0}
    half = order_conversations(
        config.model_copy(update={"steps": 6, "replay": 0.0}), read, "ab" * 32
    )
    assert isinstance(half, BatchPhases)
    assert 0 < half.first_steps < 6
    with pytest.raises(ValidationError, match="own_last needs epochs or steps"):
        FinetuneConfig(minutes=3, own_last=True)


def test_what_is_left_out_is_counted(store: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    tool = [*chat(TURNS[1:2]), {"role": "tool", "content": "3"}, *chat(TURNS[4:])]
    long = chat([("user", "x" * 300), ("assistant", "y")])
    add_own(tmp_path, [chat(), tool, long])
    write_shard(
        tmp_path / "train.parquet",
        pa.table({n: pa.array([], pa.string()) for n in ("kind", "question", "answer")}),
    )
    read = Conversations(tmp_path, store / tokenizer.name, longest=200)
    assert read.left_out == {"own_too_long": 1.0, "own_refused": 1.0}
    assert read.count == 1
    with pytest.raises(DataError, match=r"at most 20 tokens in .*: raise sft\.longest, or"):
        Conversations(tmp_path, store / tokenizer.name, longest=20)


def test_a_model_learns_what_a_team_says(
    folder: Path, store: Path, tokenizer: Tokenizer, instructions: Instructions
) -> None:
    work = Workdir.temporary(store)
    for path in folder.iterdir():
        (work.folder / path.name).write_bytes(path.read_bytes())
    mixed = work.seal(Instructions)
    config = FinetuneConfig(steps=4, batch=512, longest=200, precision="float32")
    made = finetune(config, sealed_model(store), mixed, tokenizer, Workdir.temporary(store))
    assert made.stats["examples"] == 70
    assert made.stats["own_refused"] == made.stats["own_too_long"] == 0
