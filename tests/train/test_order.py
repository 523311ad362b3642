"""Data order is a pure function of seed, digest and step, and misses nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.text.tokens import TokenSplit, open_split
from components.train.order import Order, document_numbers
from tests.train.conftest import VOCABULARY, sealed_tokens


@pytest.fixture
def split(store: Path) -> TokenSplit:
    return open_split(store / sealed_tokens(store, 40).name, "train")


def order(split: TokenSplit, **over: object) -> Order:
    given = {"rows": 4, "positions": 16, "seed": 0, "digest": "ab" * 32, **over}
    return Order(split, **given)  # type: ignore[arg-type]


def test_a_step_is_the_same_whatever_was_asked_before(split: TokenSplit) -> None:
    one, two = order(split), order(split)
    for step in (0, 1, 90, 2):
        one.batch(step)
    assert np.array_equal(one.batch(40).inputs, two.batch(40).inputs)


@pytest.mark.parametrize("change", [{"seed": 1}, {"digest": "cd" * 32}])
def test_seed_and_corpus_change_the_order(split: TokenSplit, change: dict[str, object]) -> None:
    assert not np.array_equal(order(split).batch(0).inputs, order(split, **change).batch(0).inputs)


def test_targets_are_the_next_tokens(split: TokenSplit) -> None:
    blocks = order(split).batch(3)
    assert np.array_equal(blocks.inputs[:, 1:], blocks.targets[:, :-1])


def test_an_epoch_holds_every_token_but_a_rest(split: TokenSplit) -> None:
    source = order(split, rows=1)
    seen = np.concatenate([source.batch(i).targets.ravel() for i in range(source.per_epoch)])
    counted = np.bincount(seen, minlength=VOCABULARY)
    held = np.bincount(split.tokens, minlength=VOCABULARY)
    assert (counted <= held).all()
    assert held.sum() - counted.sum() < 16


def test_epochs_differ(split: TokenSplit) -> None:
    source = order(split, rows=1)
    first, second = source.batch(0), source.batch(source.per_epoch)
    assert not np.array_equal(first.inputs, second.inputs)


def test_splitting_keeps_the_tokens(split: TokenSplit) -> None:
    blocks = order(split).batch(0)
    assert blocks.split(4).inputs.shape == (16, 4)
    assert np.array_equal(blocks.split(4).targets.ravel(), blocks.targets.ravel())


def test_a_corpus_shorter_than_a_batch_is_repeated(store: Path) -> None:
    short = open_split(store / sealed_tokens(store, 1).name, "train")
    source = order(short, rows=3, positions=4096)
    blocks = source.batch(0)
    assert blocks.inputs.shape == (3, len(short.tokens))
    assert np.array_equal(blocks.targets[0], short.tokens)


def test_an_empty_corpus_is_refused() -> None:
    nothing = TokenSplit(np.zeros(0, np.uint16), np.zeros(1, np.int64), 300, 0, 0)
    with pytest.raises(DataError, match="no token"):
        order(nothing)


def test_an_end_of_text_begins_the_next_document() -> None:
    inputs = np.array([[0, 7, 8, 0, 9], [7, 8, 9, 9, 0]])
    assert document_numbers(inputs, 0).tolist() == [[1, 1, 1, 2, 2], [0, 0, 0, 0, 1]]
