"""Ragged batches: every row as if it were alone, whoever joins, leaves or idles beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.core.errors import DataError
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.ragged_runtime import IDLE, OnnxModel, RaggedBatch
from components.export.onnx.served_graph import served_graph
from models.decoder import Decoder

Ids = NDArray[np.int64]


@pytest.fixture
def served(tmp_path: Path, decoder: Decoder) -> OnnxModel:
    path = tmp_path / "model.onnx"
    save_graph(served_graph(weights_of(decoder)), path)
    return OnnxModel(path, threads=1)


def text(seed: int, length: int) -> Ids:
    return np.random.default_rng(seed).integers(0, 320, size=length)


def alone(model: Decoder, ids: Ids) -> NDArray[np.float32]:
    with torch.inference_mode():
        logits: NDArray[np.float32] = model(torch.from_numpy(ids)[None])[0].numpy()
    return logits


def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    return bool(np.abs(found - expected).max() < 1e-4)


def test_a_ragged_batch_decodes_each_row_as_if_alone(decoder: Decoder, served: OnnxModel) -> None:
    rows = [text(0, 48), text(1, 20), text(2, 9)]
    cuts = [40, 12, 1]
    expected = [alone(decoder, row) for row in rows]
    batch = RaggedBatch(served, slots=4)
    last = batch.prefill([row[:cut] for row, cut in zip(rows, cuts, strict=True)])
    assert all(close(last[i], expected[i][cuts[i] - 1]) for i in range(3))
    for step in range(8):
        logits = batch.step([int(row[cut + step]) for row, cut in zip(rows, cuts, strict=True)])
        assert all(close(logits[i], expected[i][cuts[i] + step]) for i in range(3))
    assert batch.remaining_context(0) == 0


def test_rows_join_and_leave_in_mid_flight(decoder: Decoder, served: OnnxModel) -> None:
    a, b, c, d = (text(seed, 30) for seed in range(4))
    of_b, of_c, of_d = (alone(decoder, row) for row in (b, c, d))
    batch = RaggedBatch(served, slots=3)
    batch.prefill([a[:25], b[:5]])
    batch.step([int(a[25]), int(b[5])])
    assert close(batch.prefill([c[:14]])[0], of_c[13])
    assert batch.leave(0) == 2  # c takes a's place
    logits = batch.step([int(c[14]), int(b[6])])
    assert close(logits[0], of_c[14])
    assert close(logits[1], of_b[6])
    # d takes the freed slot, in which a's longer keys still lie.
    assert close(batch.prefill([d[:3]])[0], of_d[2])
    logits = batch.step([int(c[15]), int(b[7]), int(d[3])])
    assert close(logits[2], of_d[3])
    assert batch.leave(2) is None
    assert len(batch) == 2


def test_a_prompt_goes_in_by_pieces_beside_decoding_rows(
    decoder: Decoder, served: OnnxModel
) -> None:
    long, short = text(5, 48), text(6, 20)
    of_long, of_short = alone(decoder, long), alone(decoder, short)
    batch = RaggedBatch(served, slots=2)
    batch.prefill([short[:10]])
    row = batch.join()
    for step, piece in enumerate(np.array_split(long, 3)):
        logits = batch.step([int(short[10 + step]), IDLE])
        assert close(logits[0], of_short[10 + step])
        assert not logits[1].any()
        found = batch.feed(row, [piece])[0]
        assert close(found, of_long[16 * step : 16 * step + 16])
    # The long row is full; the short one still goes on beside it.
    assert close(batch.step([int(short[13]), IDLE])[0], of_short[13])


def test_pieces_of_any_lengths_may_share_a_call(decoder: Decoder, served: OnnxModel) -> None:
    a, b = text(8, 48), text(9, 40)
    batch = RaggedBatch(served, slots=2)
    batch.prefill([a[:47], b[:1]])
    found = batch.feed(0, [a[47:], b[1:]])
    assert close(found[0], alone(decoder, a)[47:])
    assert close(found[1], alone(decoder, b)[1:])


def test_wrong_calls_are_refused_and_change_nothing(decoder: Decoder, served: OnnxModel) -> None:
    row = text(4, 30)
    batch = RaggedBatch(served, slots=1)
    batch.prefill([row[:10]])
    with pytest.raises(ValueError, match="slots"):
        batch.join()
    with pytest.raises(ValueError, match="room for 38"):
        batch.feed(0, [row[:30].tolist() * 2])
    with pytest.raises(ValueError, match="outside 0 to 319"):
        batch.step([320])
    with pytest.raises(ValueError, match="2 tokens for 1 rows"):
        batch.step([1, 2])
    with pytest.raises(ValueError, match="not all in use"):
        batch.leave(1)
    assert close(batch.step([int(row[10])])[0], alone(decoder, row)[10])


def test_a_damaged_or_foreign_graph_is_one_clear_line(tmp_path: Path, served: OnnxModel) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.onnx: onnxruntime cannot load it") as caught:
        OnnxModel(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such graph"):
        OnnxModel(tmp_path / "absent.onnx")
