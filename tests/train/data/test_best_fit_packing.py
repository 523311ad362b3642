"""Best-fit packing cuts hardly a document and loses no token; documents do not see each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from components.text.token_arrays import TokenSplit, open_split
from components.train.data.best_fit_packing import BestFitPacking, assign_blocks
from components.train.data.data_order import BatchOrder, TokenStream
from components.train.data.micro_batch import split_micro_batches
from models.decoder import Decoder
from tests.train.conftest import NANO, sealed_tokens


@pytest.fixture
def split(store: Path) -> TokenSplit:
    return open_split(store / sealed_tokens(store, 80).name, "train")


def packed(split: TokenSplit, positions: int = 64) -> BestFitPacking:
    return BestFitPacking(split, sequence_length=positions, seed=0, digest="ab" * 32)


def slow_best_fit(lengths: list[int], size: int) -> list[int]:
    """The rule as the paper tells it, looking through all blocks."""
    rooms: list[int] = []
    chosen: list[int] = []
    for length in lengths:
        fitting = [room for room in rooms if room >= length]
        if not fitting:
            rooms.append(size)
            fitting = [size]
        # Of equally full blocks the one that came there last.
        at = min((room, -i) for i, room in enumerate(rooms) if room == min(fitting))[1]
        rooms[-at] -= length
        chosen.append(-at)
    return chosen


def test_each_piece_goes_into_the_fullest_block_that_takes_it() -> None:
    draw = np.random.default_rng(0)
    for _ in range(50):
        lengths = -np.sort(-draw.integers(1, 33, draw.integers(1, 60)))
        found = assign_blocks(lengths, 32)
        left, slowly = {}, slow_best_fit(lengths.tolist(), 32)
        for blocks in (found.tolist(), slowly):
            sizes = np.bincount(blocks, weights=lengths)
            assert sizes.max() <= 32
            left[len(left)] = sorted(sizes.tolist())
        assert left[0] == left[1]


def test_an_epoch_holds_every_token_exactly_once(split: TokenSplit) -> None:
    source = packed(split)
    for epoch in range(2):
        rows = [
            source.read_block(epoch * source.blocks_per_epoch + n)
            for n in range(source.blocks_per_epoch)
        ]
        seen = np.concatenate(
            [r.targets[slice(None) if r.real is None else r.real] for r in rows], None
        )
        assert np.array_equal(
            np.bincount(seen, minlength=300), np.bincount(split.tokens, minlength=300)
        )


def test_few_documents_are_cut_and_little_is_empty(split: TokenSplit) -> None:
    """A document is cut only where it is longer than a block; the stream cuts at every block."""
    source = packed(split, 128)
    rows = [source.read_block(number) for number in range(source.blocks_per_epoch)]
    begun = sum(int((row.inputs[0][row.documents[0] > 0] == split.eos).sum()) for row in rows)
    pieces = sum(int(row.documents.max()) for row in rows)
    assert pieces == begun == len(split.documents) - 1
    short = packed(split, 32)
    room = 32 * short.blocks_per_epoch
    assert len(split.tokens) <= room < 1.02 * len(split.tokens)
    stream = TokenStream(split, sequence_length=128, seed=0, digest="ab" * 32)
    cut = [stream.read_block(number) for number in range(stream.blocks_per_epoch)]
    assert sum(row.inputs[0][0] != split.eos for row in cut) > 0.8 * len(cut)


def test_a_long_document_goes_on_from_the_token_before(split: TokenSplit) -> None:
    source = packed(split, 16)
    text, begun = split.tokens.tolist(), 0
    for number in range(source.blocks_per_epoch):
        row = source.read_block(number)
        inputs, targets = row.inputs[0], row.targets[0]
        for document in range(1, int(row.documents.max()) + 1):
            at = np.flatnonzero(row.documents[0] == document)
            piece = [int(inputs[at[0]]), *targets[at].tolist()]
            begun += piece[0] == split.eos
            if piece[0] != split.eos:
                assert any(text[i : i + len(piece)] == piece for i in range(len(text)))
    assert begun == len(split.documents) - 1


def test_epochs_differ_and_a_row_is_pure(split: TokenSplit) -> None:
    one, two = packed(split), packed(split)
    for number in (0, one.blocks_per_epoch, 3):
        one.read_block(number)
    assert np.array_equal(one.read_block(5).inputs, two.read_block(5).inputs)
    first = np.concatenate([one.read_block(n).inputs for n in range(4)])
    second = np.concatenate([one.read_block(one.blocks_per_epoch + n).inputs for n in range(4)])
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("kind", [TokenStream, BestFitPacking])
def test_documents_of_a_block_do_not_see_each_other(
    split: TokenSplit, kind: type[TokenStream] | type[BestFitPacking]
) -> None:
    """Each document's hidden states are those that it has alone, at positions from 0 on."""
    torch.manual_seed(0)
    model = Decoder(NANO).eval()
    blocks = BatchOrder(kind(split, sequence_length=64, seed=0, digest="ab" * 32), 4).batch(0)
    seen = 0
    with torch.no_grad():
        for micro in split_micro_batches(blocks, 128):
            hidden = model.hidden(micro.inputs, mask=micro.mask)
            for row, ids in enumerate(micro.inputs):
                numbers = blocks.documents[seen]
                for document in np.unique(numbers[numbers > 0]):
                    at = torch.from_numpy(np.flatnonzero(numbers == document))
                    alone = model.hidden(ids[at][None])[0]
                    torch.testing.assert_close(hidden[row, at], alone, rtol=1e-4, atol=1e-5)
                seen += 1
    assert seen == 4
