"""A small model with weights large enough to matter, tokens for it, and a tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers

from components.core.store.artifact import (
    Artifact,
    Checkpoint,
    Lineage,
    Tokenizer,
    Tokens,
    digest_folder,
)
from components.core.store.workdir import Workdir
from components.text.chat.house_template import HOUSE_TOKENS
from components.text.decoder_files import save_model
from components.text.token_arrays import save_split
from models.decoder import Decoder
from models.shape import DecoderShape

A = TypeVar("A", bound=Artifact)
SHAPE = DecoderShape(
    vocabulary=320,
    width=48,
    layers=2,
    heads=4,
    kv_heads=2,
    head_width=16,
    hidden=96,
    context=48,
)
"""Width 48 is no multiple of a quantization block of 32."""


@pytest.fixture
def decoder() -> Decoder:
    """Weights that make positions, norms and every head count."""
    torch.manual_seed(7)
    model = Decoder(SHAPE).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.uniform_(0.5, 1.5)
            else:
                parameter.normal_(std=0.15)
    return model


@pytest.fixture
def fresh(work: Workdir) -> Callable[[], Workdir]:
    """Another workdir of the same store, one for each stage."""
    return lambda: Workdir.temporary(work.root)


@pytest.fixture
def model(work: Workdir, decoder: Decoder) -> Checkpoint:
    save_model(work.folder, decoder)
    return work.seal(Checkpoint)


@pytest.fixture
def tokens(work: Workdir) -> Tokens:
    """Random documents of the small vocabulary."""
    folder = _input(work, "tokens")
    draw = np.random.default_rng(3)
    documents = [draw.integers(5, SHAPE.vocabulary, size=90).tolist() for _ in range(6)]
    for split in ("train", "heldout"):
        save_split(folder, split, documents, SHAPE.vocabulary)  # type: ignore[arg-type]
    meta = {"vocabulary": SHAPE.vocabulary, "eos": 0, "train_bytes": 1, "heldout_bytes": 1}
    (folder / "meta.json").write_text(json.dumps(meta))
    return _adopt(Tokens, folder)


@pytest.fixture
def tokenizer(work: Workdir) -> Tokenizer:
    """Byte-level: 5 special tokens, 256 bytes, and pairs of letters up to the model's size."""
    folder = _input(work, "tokenizer")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*HOUSE_TOKENS, *alphabet))}
    letters = "abcdefghij"
    merges = [(one, other) for one in letters for other in letters]
    merges = merges[: SHAPE.vocabulary - len(vocabulary)]
    vocabulary |= {one + other: len(vocabulary) + n for n, (one, other) in enumerate(merges)}
    fast = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(list(HOUSE_TOKENS))
    fast.save(str(folder / "tokenizer.json"))
    return _adopt(Tokenizer, folder)


def _input(work: Workdir, name: str) -> Path:
    folder = work.root / name
    folder.mkdir(parents=True)
    return folder


def _adopt(kind: type[A], folder: Path) -> A:
    lineage = Lineage(component="tests", code="", config="")
    return kind(name=folder.name, digest=digest_folder(folder), lineage=lineage)
