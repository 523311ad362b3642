"""Conversations of a team's own become instructions beside those of pages, or without any."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from components.clean.conversations.conversations_config import ConversationsConfig
from components.clean.conversations.read_conversations import read_conversations
from components.core.config.hashed_file import HashedFile
from components.core.errors import ConfigError, DataError
from components.core.store.artifact import Corpus, Tokenizer
from components.core.store.workdir import Workdir
from components.text.chat.ask_model import read_instructions, read_questions
from components.text.chat.chat_tokenizer import open_tokenizer
from components.tokenize.instructions import InstructionsConfig, make_instructions
from components.tokenize.pack_tokens import TokensConfig, pack_tokens
from components.tokenize.train_tokenizer import TokenizerConfig, train_tokenizer

Again = Callable[[], Workdir]
SPLITS = ("train", "align", "heldout")


def chat(number: int) -> dict[str, Any]:
    turns = [
        ("system", "Be brief."),
        ("user", f"Is there a lamp number {number}?"),
        ("assistant", "Yes."),
        ("user", f"Say\nwhere lamp {number} of the long wall stands."),
        ("assistant", f"Lamp {number} stands behind door {number * 7}."),
    ]
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


@pytest.fixture
def tokenizer(docs: Corpus, again: Again) -> Tokenizer:
    return train_tokenizer(TokenizerConfig(vocabulary=512), docs, again())


@pytest.fixture
def own(tmp_path: Path, again: Again) -> Callable[..., Corpus]:
    def read(count: int, heldout_share: float = 0.2) -> Corpus:
        path = tmp_path / "chats.jsonl"
        path.write_text("".join(json.dumps(chat(number)) + "\n" for number in range(count)))
        files = (HashedFile.model_validate(str(path)),)
        return read_conversations(
            ConversationsConfig(files=files, heldout_share=heldout_share), again()
        )

    return read


def test_without_pages_the_own_ones_are_split_and_those_of_pages_empty(
    own: Callable[..., Corpus], again: Again
) -> None:
    config = InstructionsConfig(align_share=0.3, min_align=4)
    sealed = make_instructions(config, again(), conversations=own(60))
    folder = again().artifact_folder(sealed)
    assert sealed.stats["train_conversations"] >= 20
    rows = {split: read_instructions(folder, split) for split in SPLITS}  # type: ignore[arg-type]
    ids = {split: {row["id"] for row in rows[split]} for split in SPLITS}
    assert sum(map(len, ids.values())) == len(set().union(*ids.values())) == 60
    assert min(map(len, ids.values())) >= 4
    assert all(pq.read_table(folder / f"{split}.parquet").num_rows == 0 for split in SPLITS)
    row = rows["train"][0]
    number = int(row["answer"].split()[1])
    assert row == {
        "id": row["id"],
        "url": row["url"],
        "kind": "conversation",
        "subject": "Say",
        "question": f"Say\nwhere lamp {number} of the long wall stands.",
        "answer": f"Lamp {number} stands behind door {number * 7}.",
        "wordings": [f"Say\nwhere lamp {number} of the long wall stands."],
        "reworded": [],
        "messages": row["messages"],
        "tools": None,
    }
    assert json.loads(row["messages"]) == chat(number)["messages"]


def test_a_prompt_holds_all_turns_before_the_last_answer(
    own: Callable[..., Corpus], again: Again, tokenizer: Tokenizer
) -> None:
    sealed = make_instructions(InstructionsConfig(), again(), conversations=own(40))
    opened = open_tokenizer(again().artifact_folder(tokenizer))
    folder = again().artifact_folder(sealed)
    asked = read_questions(folder, "heldout", opened, longest=1000, limit=3, seed=0)
    assert len(asked) == 3
    assert not read_questions(folder, "heldout", opened, longest=1000, limit=3, seed=0, alone=True)
    for question in asked:
        number = int(question.reference.split()[1])
        assert list(question.token_ids) == opened.encode_prompt(chat(number)["messages"][:-1])
        assert question.context == f"Be brief.\n\nIs there a lamp number {number}?\n\nYes."


def test_beside_pages_those_of_pages_are_the_same_bytes(
    own: Callable[..., Corpus], again: Again, docs: Corpus, tokenizer: Tokenizer
) -> None:
    tokens = pack_tokens(
        TokensConfig(heldout_share=0.3, min_train_tokens=1), docs, tokenizer, again()
    )
    config = InstructionsConfig(min_heldout=0)
    alone = make_instructions(config, again(), docs, tokens)
    both = make_instructions(config, again(), docs, tokens, own(40))
    folders = [again().artifact_folder(made) for made in (alone, both)]
    for split in SPLITS:
        contents = {(folder / f"{split}.parquet").read_bytes() for folder in folders}
        assert len(contents) == 1
    files = {path.name for path in folders[0].iterdir()}
    assert files == {*(f"{split}.parquet" for split in SPLITS), "artifact.json"}
    pages = read_instructions(folders[0], "train")
    assert {row["messages"] for row in pages} == {None}
    rows = read_instructions(folders[1], "train")
    assert rows[: len(pages)] == pages
    assert {row["kind"] for row in rows[len(pages) :]} == {"conversation"}
    assert len(rows) > len(pages)


@pytest.mark.parametrize(
    ("count", "share", "said"), [(6, 0.2, "2 held out"), (9, 0.0, "0 held out")]
)
def test_too_few_are_one_line_with_the_fields(
    own: Callable[..., Corpus], again: Again, count: int, share: float, said: str
) -> None:
    corpus = own(count, share)
    with pytest.raises(DataError) as refused:
        make_instructions(InstructionsConfig(heldout_share=share), again(), conversations=corpus)
    line = str(refused.value)
    assert said in line
    assert "instructions.files" in line
    assert "instructions.heldout_share" in line
    assert "instructions.min_heldout" in line
    enough = InstructionsConfig(min_heldout=0)
    assert make_instructions(enough, again(), conversations=corpus).stats["train_conversations"] > 0


def test_neither_pages_nor_conversations_are_refused(again: Again, docs: Corpus) -> None:
    with pytest.raises(ConfigError, match="give corpus and tokens, or conversations"):
        make_instructions(InstructionsConfig(), again())
    with pytest.raises(ConfigError, match="give corpus and tokens"):
        make_instructions(InstructionsConfig(), again(), docs)


def test_an_answer_of_weight_0_is_read_and_not_learnt(again: Again, tokenizer: Tokenizer) -> None:
    opened = open_tokenizer(again().artifact_folder(tokenizer))
    messages = [dict(turn) for turn in chat(3)["messages"]]
    (whole,) = opened.encode_conversation(messages)
    messages[2]["weight"] = 0
    (weighed,) = opened.encode_conversation(messages)
    assert weighed.ids == whole.ids
    assert weighed.answers == whole.answers[1:]
