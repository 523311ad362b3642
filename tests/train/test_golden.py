"""Twenty losses of a nano decoder, kept as numbers: a refactor must reproduce them.

float32, one thread, a fixed seed and a corpus that is made here. Processors multiply matrices in
other orders and with other roundings, which twenty steps carry on: between SSE, AVX2 and AVX512 the
losses under AdamW were 6e-8 apart (relative), so 1e-5 leaves room for others. Muon
orthogonalises in bfloat16, whose roundings were 2.5e-4 apart: 1e-3.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain
from components.train.training_config import OptimConfig
from tests.train.test_pretrain import losses, nano

ADAMW = [
    5.5580757,
    5.3375311,
    5.0152509,
    4.7960141,
    4.5497754,
    4.3310747,
    4.0556929,
    3.8750210,
    3.7294866,
    3.5147732,
    3.3598949,
    3.2425321,
    3.0926852,
    2.9864608,
    2.9601609,
    2.8405758,
    2.6488483,
    2.6678765,
    2.7095922,
    2.6450802,
]
MUON = [
    5.5580757,
    5.3738890,
    5.0724235,
    4.7561677,
    4.4374690,
    4.2111084,
    3.9877723,
    3.7864504,
    3.6295667,
    3.4230154,
    3.2594411,
    3.1228815,
    2.9769191,
    2.8918616,
    2.8758636,
    2.7564144,
    2.5587682,
    2.5824746,
    2.6248653,
    2.5612019,
]
PACKED = [
    5.5296869,
    5.3234584,
    5.0376761,
    4.7785671,
    4.5390106,
    4.2501847,
    4.1015081,
    3.8641988,
    3.6570439,
    3.4949332,
    3.3661062,
    3.1478839,
    3.0035385,
    2.9597445,
    2.9216924,
    2.7025918,
    2.7953549,
    2.4979549,
    2.5904151,
    2.5464682,
]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def twenty(store: Path, tokens: Tokens, **over: object) -> list[float]:
    made = pretrain(nano(device="cpu", **over), tokens, Workdir.temporary(store))
    return losses(store / made.name)


def test_adamw(tokens: Tokens, store: Path) -> None:
    optim = OptimConfig(kind="adamw", adam_lr=0.01, embedding_lr=0.01, weight_decay=0.1)
    found = twenty(store, tokens, optim=optim)
    assert found == pytest.approx(ADAMW, rel=1e-5)


def test_muon(tokens: Tokens, store: Path) -> None:
    found = twenty(store, tokens)
    assert found[0] == pytest.approx(MUON[0], rel=1e-5)
    assert found == pytest.approx(MUON, rel=1e-3)


def test_packed_documents_average_and_micro_batches(tokens: Tokens, store: Path) -> None:
    """The options that change what is computed, each with a number of its own."""
    optim = OptimConfig(kind="adamw", adam_lr=0.01, embedding_lr=0.01, weight_decay=0.1)
    packed = twenty(store, tokens, optim=optim, packing="best-fit", micro_batch=64, ema=0.9)
    assert packed == pytest.approx(PACKED, rel=1e-5)
