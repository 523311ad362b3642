"""Data order is a pure function of seed, digest and step, and misses nothing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from components.core.errors import DataError
from components.text.token_arrays import TokenSplit, open_split
from components.train.data.best_fit_packing import BestFitPacking
from components.train.data.data_order import BatchOrder, TokenStream, number_documents, rank_share
from components.train.data.micro_batch import split_micro_batches
from tests.train.conftest import VOCABULARY, sealed_tokens


@pytest.fixture
def split(store: Path) -> TokenSplit:
    return open_split(store / sealed_tokens(store, 40).name, "train")


def order(split: TokenSplit, **over: object) -> BatchOrder:
    given = {"rows": 4, "sequence_length": 16, "seed": 0, "digest": "ab" * 32, **over}
    rows = int(given.pop("rows"))  # type: ignore[call-overload]
    return BatchOrder(TokenStream(split, **given), rows)  # type: ignore[arg-type]


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
    seen = np.concatenate([source.batch(i).targets.ravel() for i in range(source.blocks_per_epoch)])
    counted = np.bincount(seen, minlength=VOCABULARY)
    held = np.bincount(split.tokens, minlength=VOCABULARY)
    assert (counted <= held).all()
    assert held.sum() - counted.sum() < 16


def test_epochs_differ(split: TokenSplit) -> None:
    source = order(split, rows=1)
    first, second = source.batch(0), source.batch(source.blocks_per_epoch)
    assert not np.array_equal(first.inputs, second.inputs)


@pytest.mark.parametrize("packing", ["stream", "best-fit"])
@pytest.mark.parametrize("world", [1, 2, 4])
@pytest.mark.parametrize("micro", [16, 32, 48, 1024])
def test_ranks_and_micro_batches_share_one_order(
    split: TokenSplit, packing: str, world: int, micro: int
) -> None:
    alone, shared = (packed(split, packing) for _ in range(2))
    for step in (7, 0, 91):  # as after resumes: in any sequence, over ends of epochs
        whole = alone.batch(step).split_blocks(8)
        parts = [
            part
            for rank in range(world)
            for part in split_micro_batches(shared.batch(step, rank, world).split_blocks(8), micro)
        ]
        for name in ("inputs", "targets"):
            seen = np.concatenate([getattr(part, name).numpy() for part in parts])
            # A micro-batch without a target is left out, rows without one may be.
            kept = whole.real is None or whole.real.any(1)
            wanted = getattr(whole, name)
            assert np.array_equal(seen, wanted) or np.array_equal(seen, wanted[kept])
        assert sum(part.count for part in parts) == whole.count
        assert max(part.inputs.numel() for part in parts) <= max(micro, 8)


def packed(split: TokenSplit, packing: str, rows: int = 6) -> BatchOrder:
    kind = TokenStream if packing == "stream" else BestFitPacking
    return BatchOrder(kind(split, sequence_length=16, seed=0, digest="ab" * 32), rows)


def test_shares_of_ranks_differ_by_one_at_most() -> None:
    for rows, world in itertools.product((1, 6, 7), (1, 2, 4)):
        cuts = [rank_share(rows, rank, world) for rank in range(world)]
        assert [cut[0] for cut in cuts] == [0, *(cut[1] for cut in cuts[:-1])]
        assert cuts[-1][1] == rows
        sizes = [end - start for start, end in cuts]
        assert max(sizes) - min(sizes) <= 1


def test_the_stream_is_the_documents_one_behind_another(split: TokenSplit) -> None:
    """Read from where each lies, it is what joining all of them would give."""
    source = TokenStream(split, sequence_length=16, seed=0, digest="ab" * 32)
    led = 0
    for epoch in range(80):
        order, offsets, starts = source._open_epoch(epoch)
        joined = np.concatenate([[split.eos], *(split.document(int(one)) for one in order)])
        led += int(starts.min()) == 0
        for index, start in enumerate(starts):
            row = source.read_block(epoch * source.blocks_per_epoch + index)
            assert np.array_equal(row.inputs[0], joined[start : start + 16])
            assert np.array_equal(row.targets[0], joined[start + 1 : start + 17])
        assert offsets[-1] == len(split.tokens)
    assert led > 0  # the token that leads was among them


def test_splitting_keeps_the_tokens(split: TokenSplit) -> None:
    blocks = order(split).batch(0)
    assert blocks.split_blocks(4).inputs.shape == (16, 4)
    assert np.array_equal(blocks.split_blocks(4).targets.ravel(), blocks.targets.ravel())


def test_an_empty_corpus_is_refused() -> None:
    nothing = TokenSplit(np.zeros(0, np.uint16), np.zeros(1, np.int64), 300, 0, 0)
    with pytest.raises(DataError, match="no token"):
        order(nothing)


def test_an_end_of_text_begins_the_next_document() -> None:
    inputs = np.array([[0, 7, 8, 0, 9], [7, 8, 9, 9, 0]])
    assert number_documents(inputs, 0).tolist() == [[1, 1, 1, 2, 2], [0, 0, 0, 0, 1]]
