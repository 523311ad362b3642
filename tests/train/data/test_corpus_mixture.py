"""Mixed corpora keep to their weights at every number, and each goes through its own epochs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import ConfigError
from components.core.store.artifact import Tokens
from components.core.store.workdir import Workdir
from components.text.token_arrays import open_split
from components.train.data.corpus_mixture import CorpusMixture
from components.train.data.data_order import TokenStream
from components.train.pretrain import pretrain
from tests.train.conftest import sealed_tokens
from tests.train.test_pretrain import nano


def mixture(store: Path, weights: dict[str, float], positions: int = 16) -> CorpusMixture:
    splits = {
        name: open_split(store / sealed_tokens(store, 20 + 5 * index).name, "train")
        for index, name in enumerate(weights)
    }
    sources = {
        name: TokenStream(split, sequence_length=positions, seed=0, digest=f"{index}" * 64)
        for index, (name, split) in enumerate(splits.items())
    }
    return CorpusMixture(sources, weights)


@pytest.mark.parametrize(
    "weights",
    [{"a": 1.0}, {"a": 0.7, "b": 0.3}, {"a": 2, "b": 1, "c": 1}, {"a": 0.05, "b": 0.9, "c": 0.05}],
)
def test_the_weights_hold_after_any_number_of_blocks(
    store: Path, weights: dict[str, float]
) -> None:
    mixed = mixture(store, weights)
    total = sum(weights.values())
    counts = dict.fromkeys(mixed.names, 0)
    for number in range(2000):
        source, inner = mixed.locate_block(number)
        name = mixed.names[source]
        assert inner == counts[name]  # each corpus in its own order, nothing left out
        counts[name] += 1
        for one, count in counts.items():
            wanted = (number + 1) * weights[one] / total
            assert abs(count - wanted) < len(weights)
    assert counts == {name: round(2000 * w / total) for name, w in weights.items()}


def test_a_block_is_that_of_its_corpus(store: Path) -> None:
    mixed = mixture(store, {"a": 0.5, "b": 0.5})
    source, inner = mixed.locate_block(33)
    wanted = mixed._sources[source].read_block(inner)
    assert np.array_equal(mixed.read_block(33).inputs, wanted.inputs)


def test_weights_of_other_corpora_are_refused(store: Path, tokens: Tokens) -> None:
    with pytest.raises(ConfigError, match="weights are given for nothing, tokens for code, tokens"):
        pretrain(nano(), tokens, Workdir.temporary(store), more={"code": tokens})


def test_a_corpus_of_another_tokenizer_is_refused(store: Path, tokens: Tokens) -> None:
    other = sealed_tokens(store, 60, vocabulary=300)
    config = nano(mixture={"tokens": 0.5, "code": 0.5})
    with pytest.raises(ConfigError, match=r"vocabulary of 300, .* are of different tokenizers"):
        pretrain(config, tokens, Workdir.temporary(store), more={"code": other})


def test_a_mixture_trains(store: Path, tokens: Tokens) -> None:
    config = nano(mixture={"tokens": 0.75, "code": 0.25}, steps=3)
    more = {"code": sealed_tokens(store, 30)}
    made = pretrain(config, tokens, Workdir.temporary(store), more=more)
    plain = pretrain(nano(steps=3), tokens, Workdir.temporary(store))
    assert made.digest != plain.digest
    assert made.stats["tokens"] == plain.stats["tokens"]
