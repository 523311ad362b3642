"""A small packed corpus, a tokenizer and instructions, as sealed artifacts of a temporary store."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from tokenizers import Tokenizer as Words
from tokenizers import decoders, pre_tokenizers
from tokenizers import models as kinds

from components.core.store.artifact import Checkpoint, Instructions, Lineage, Tokenizer, Tokens
from components.core.store.shards import write_shard
from components.core.store.workdir import Workdir
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.decoder_files import save_model
from components.text.token_arrays import save_split
from models.decoder import Decoder
from models.shape import DecoderShape

VOCABULARY = 256 + len(HOUSE_TOKENS)
NANO = DecoderShape(
    vocabulary=VOCABULARY,
    width=32,
    layers=2,
    heads=2,
    kv_heads=1,
    head_width=16,
    hidden=64,
    context=64,
)


def documents(count: int, seed: int = 0) -> list[list[int]]:
    """Documents of a small language: each token is mostly decided by the one before it."""
    draw = np.random.default_rng(seed)
    made: list[list[int]] = []
    for length in draw.integers(20, 120, count):
        ids = [int(draw.integers(5, 60))]
        for jump in draw.random(length):
            ids.append(int(draw.integers(5, 60)) if jump < 0.2 else 5 + (ids[-1] * 7 + 3) % 55)
        made.append([*ids, 0])
    return made


def sealed_tokens(root: Path, count: int, vocabulary: int = VOCABULARY) -> Tokens:
    """A Tokens artifact of ``count`` training documents."""
    work = Workdir.temporary(root)
    train, heldout = documents(count), documents(6, seed=1)
    save_split(work.folder, "train", train, vocabulary)
    save_split(work.folder, "heldout", heldout, vocabulary)
    sizes = {"train_bytes": sum(map(len, train)) * 3, "heldout_bytes": sum(map(len, heldout)) * 3}
    (work.folder / "meta.json").write_text(
        json.dumps({"vocabulary": vocabulary, "eos": 0, **sizes})
    )
    return work.seal(Tokens)


def sealed_model(store: Path, shape: DecoderShape = NANO) -> Checkpoint:
    """A checkpoint of random weights."""
    work = Workdir.temporary(store)
    torch.manual_seed(0)
    save_model(work.folder, Decoder(shape))
    return work.seal(Checkpoint)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def tokens(store: Path) -> Tokens:
    return sealed_tokens(store, 60)


@pytest.fixture
def tokenizer(store: Path) -> Tokenizer:
    """A tokenizer of bytes alone."""
    work = Workdir.temporary(store)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*HOUSE_TOKENS, *letters])}
    words = Words(kinds.BPE(vocabulary, []))
    words.add_special_tokens(list(HOUSE_TOKENS))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    words.save(str(work.folder / "tokenizer.json"))
    return work.seal(Tokenizer)


@pytest.fixture
def instructions(store: Path) -> Instructions:
    work = Workdir.temporary(store)
    rows = [
        {
            "id": f"{index:032x}",
            "url": f"https://docs.example/{index}",
            "kind": "describe" if index % 2 else "module",
            "subject": f"m.f{index}",
            "question": f"What is f{index}?",
            "answer": "It is f" + str(index) * (1 + index % 5),
        }
        for index in range(80)
    ]
    write_shard(work.folder / "train.parquet", pa.Table.from_pylist(rows[:60]))
    write_shard(work.folder / "heldout.parquet", pa.Table.from_pylist(rows[60:]))
    return work.seal(Instructions)


def artifact_of(folder: Path, kind: type, name: str) -> object:
    """A reference to a folder below a store's root, for a call that reads it."""
    return kind(name=name, digest="0" * 64, lineage=Lineage(component="t", code="", config=""))
