"""A world small enough for seconds: a policy that says "good" and "bad" equally often."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer as BPE
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F

from components.align.preferences import make_preferences
from components.align.train_reward import train_reward
from components.core.store.artifact import Checkpoint, Instructions, Preferences, Tokenizer
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.chat_tokenizer import open_tokenizer
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.decoder_files import save_model
from models.answer_sequences import answer_log_probs, join_answers, token_log_probs
from models.decoder import Decoder
from models.shape import DecoderShape
from tests.align.chain import PAIRS, REWARD

NAMES = ["load", "dump", "walk", "join", "split", "merge", "count", "sort"]


@dataclass(frozen=True)
class World:
    """Sealed inputs below one store."""

    root: Path
    policy: Checkpoint
    instructions: Instructions
    tokenizer: Tokenizer

    def work(self) -> Workdir:
        return Workdir.temporary(self.root)


def rows(names: list[str], page: str) -> list[dict[str, str]]:
    return [
        {
            "id": f"{page}{index % 8}",
            "url": f"http://docs/{page}{index % 8}",
            "kind": "describe",
            "subject": f"kit.{name}",
            "question": f"What is `kit.{name}`?",
            "answer": f"The `{name}` helper is good.",
        }
        for index, name in enumerate(names)
    ]


def said(name: str, what: str) -> str:
    return f"The `{name}` helper is {what}."


def _tokenizer(root: Path) -> Tokenizer:
    work = Workdir.temporary(root)
    bpe = BPE(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"What is `kit.{n}`? {said(n, 'good')} {said(n, 'bad')}" for n in NAMES]
    bpe.train_from_iterator(texts, trainer)
    bpe.save(str(work.folder / "tokenizer.json"))
    return work.seal(Tokenizer)


def _policy(root: Path, tokenizer: Tokenizer) -> Checkpoint:
    work = Workdir.temporary(root)
    opened = open_tokenizer(work.artifact_folder(tokenizer))
    torch.manual_seed(1)
    shape = DecoderShape(
        vocabulary=opened.vocabulary,
        width=48,
        layers=2,
        heads=2,
        kv_heads=1,
        head_width=16,
        hidden=96,
        context=96,
    )
    model = Decoder(shape)
    pairs = [(n, what) for n in NAMES for what in ("good", "bad")]
    batch = join_answers(
        [opened.encode_question(f"What is `kit.{n}`?") for n, _ in pairs],
        [[*opened.encode_text(said(n, what)), *opened.answer_end_ids] for n, what in pairs],
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=6e-3)
    for _ in range(60):
        loss = -token_log_probs(answer_log_probs(model, batch), batch.answers_n).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < F.softplus(torch.zeros(1))  # it has learnt to speak
    save_model(work.folder, model)
    return work.seal(Checkpoint)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small wait for threads longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("align") / "store"
    tokenizer = _tokenizer(root)
    work = Workdir.temporary(root)
    for split, names in (("train", NAMES), ("align", NAMES), ("heldout", NAMES[:4])):
        write_shard(work.folder / f"{split}.parquet", pa.Table.from_pylist(rows(names, split)))
    instructions = work.seal(Instructions)
    return World(root, _policy(root, tokenizer), instructions, tokenizer)


@pytest.fixture(scope="session")
def preferences(world: World) -> Preferences:
    return make_preferences(PAIRS, world.policy, world.instructions, world.tokenizer, world.work())


@pytest.fixture(scope="session")
def reward(world: World, preferences: Preferences) -> Checkpoint:
    return train_reward(REWARD, world.policy, preferences, world.tokenizer, world.work())
