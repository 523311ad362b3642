"""Ragged batches: every row as if it were alone, whoever joins, leaves or idles beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from components.core.errors import ConfigError, DataError
from components.export.onnx import cache_memory, graph_call, ragged_runtime
from components.export.onnx.graph_builder import save_graph, weights_of
from components.export.onnx.graph_call import group_neighbours
from components.export.onnx.onnx_session import OnnxModel
from components.export.onnx.plain_graph import plain_graph
from components.export.onnx.ragged_runtime import IDLE, RaggedBatch
from components.export.onnx.served_graph import served_graph
from components.export.onnx.static_activations import measure_ranges, quantize_normed_products
from components.export.quantize import QuantizeConfig, quantize_matmuls
from models.decoder import Decoder
from serving.engine.scheduler import size_chunk

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


@pytest.mark.parametrize("static", [False, True])
@pytest.mark.parametrize("length", [2, 17, 33, 40])
def test_where_a_prompt_is_cut_changes_no_bit(
    decoder: Decoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int, static: bool
) -> None:
    graph = served_graph(weights_of(decoder))
    if static:
        quantize_normed_products(graph, measure_ranges(graph, [text(1, 40)]))
    quantize_matmuls(graph, QuantizeConfig(block=16, head_block=16))
    save_graph(graph, tmp_path / "model.onnx")
    served = OnnxModel(tmp_path / "model.onnx", threads=1)
    monkeypatch.setattr(ragged_runtime, "PIECE", 16)
    prompt = text(length, length)

    def read(sizes: list[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        batch = RaggedBatch(served, 1)
        batch.join()
        at = 0
        for size in sizes:
            logits = batch.feed_rows([0], [prompt[at : at + size]])
            at += size
        return logits.copy(), batch.read_prefix(0, length)

    whole = read([length])
    for budget in (2, 7, 11, 64):
        left, sizes = length, list[int]()
        while left:
            sizes.append(size_chunk(left, budget))
            left -= sizes[-1]
        cut = read(sizes)
        for array, expected in zip(cut, whole, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_rows_of_any_lengths_and_places_are_fed_together(
    decoder: Decoder, served: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ragged_runtime, "PIECE", 9)
    rows = [text(seed, length) for seed, length in enumerate((48, 30, 12, 33, 20))]
    expected = [alone(decoder, row) for row in rows]
    batch = RaggedBatch(served, slots=6)
    batch.prefill([row[:cut] for row, cut in zip(rows, (40, 3, 1, 6, 7), strict=True)])
    # Row 1 goes in by three whole pieces; the ends of 3 and 4 share a call; 2 is left alone.
    found = batch.feed_rows([4, 0, 3, 1], [rows[4][7:19], rows[0][40:], rows[3][6:20], rows[1][3:]])
    for logits, row, last in zip(found, (4, 0, 3, 1), (18, 47, 19, 29), strict=True):
        assert close(logits, expected[row][last])
    assert close(batch.step([IDLE, IDLE, rows[2][1], rows[3][20], IDLE])[2], expected[2][1])
    # The step left the prompts' logits where they were.
    assert close(batch.feed_rows([4], [rows[4][19:]])[0], expected[4][19])
    assert close(batch.feed_rows([2, 3], [rows[2][2:5], rows[3][21:]])[1], expected[3][32])


def test_rows_share_a_call_where_that_costs_little_padding() -> None:
    lengths = np.array([0, 3, 9, 0, 0, 0, 0], dtype=np.int32)
    like = {0: 10, 1: 8, 2: 12, 3: 60, 5: 10, 6: 10}
    assert group_neighbours(like, lengths, 100) == [[0, 1, 2], [3], [5, 6]]
    assert group_neighbours(like, lengths, 20) == [[0, 1], [2], [3], [5, 6]]
    assert group_neighbours({0: 1, 1: 6}, lengths, 100) == [[0], [1]]


def test_a_full_row_has_neighbours_that_are_fed(decoder: Decoder, served: OnnxModel) -> None:
    full, other = text(3, 48), text(4, 30)
    batch = RaggedBatch(served, slots=2)
    batch.prefill([full[:47], other[:4]])
    found = batch.feed_rows([0, 1], [full[47:], other[4:]])
    assert close(found[0], alone(decoder, full)[47])
    assert close(found[1], alone(decoder, other)[29])


def test_a_row_goes_on_from_the_prefix_of_another(decoder: Decoder, served: OnnxModel) -> None:
    first, second = text(3, 30), text(4, 30)
    second[:20] = first[:20]
    batch = RaggedBatch(served, slots=2)
    batch.prefill([first])
    prefix = batch.read_prefix(0, 24)
    assert prefix.shape == (4, 2, 24, 16)
    batch.leave(0)
    batch.prefill([text(5, 40), text(6, 40)])  # where the prefix came from other keys lie now
    batch.write_prefix(1, prefix, 20)
    assert batch.remaining_context(1) == 28
    assert close(batch.feed_rows([1], [second[20:]])[0], alone(decoder, second)[29])
    with pytest.raises(ValueError, match="row 1 holds 30 tokens: 31"):
        batch.read_prefix(1, 31)
    with pytest.raises(ValueError, match="25 positions of a prefix of 24"):
        batch.write_prefix(1, prefix, 25)
    with pytest.raises(ValueError, match=r"a prefix \(4, 1, 24, 16\)"):
        batch.write_prefix(1, prefix[:, :1], 3)
    with pytest.raises(ValueError, match="not all in use"):
        batch.write_prefix(2, prefix, 3)


def test_a_context_of_its_own_bounds_a_row(decoder: Decoder, served: OnnxModel) -> None:
    row = text(3, 20)
    batch = RaggedBatch(served, slots=1, context=20)
    batch.prefill([row[:19]])
    assert close(batch.step([int(row[19])])[0], alone(decoder, row)[19])
    with pytest.raises(ValueError, match="room for 0 more"):
        batch.step([1])
    with pytest.raises(ConfigError, match="49 tokens is longer than the model's 48"):
        RaggedBatch(served, slots=1, context=49)


def test_a_cache_beyond_the_memory_is_refused_and_the_longest_one_fits(
    served: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A position: 2 layers, key and value, 2 heads of 16 channels, 4 bytes each.
    assert cache_memory.position_bytes(served) == 512
    monkeypatch.setattr(cache_memory, "usable_memory", lambda: 1_000_000)
    assert cache_memory.longest_context(served, 20) == 48
    assert cache_memory.longest_context(served, 40) == 38  # 40 * 39 * 512 = 798,720
    RaggedBatch(served, slots=40, context=38)
    with pytest.raises(ConfigError, match=r"40 slots with a context of 39 .*0\.000819 GB .*fewer"):
        RaggedBatch(served, slots=40, context=39)
    with pytest.raises(ConfigError, match="shorter context"):
        cache_memory.longest_context(served, 1000)


def test_logits_of_a_step_stay_until_the_next_those_of_prompts_for_good(
    decoder: Decoder, served: OnnxModel
) -> None:
    a, b = text(1, 20), text(2, 20)
    batch = RaggedBatch(served, slots=2)
    read = batch.prefill([a[:9]])
    stepped = batch.step([int(a[9])])
    later = batch.prefill([b[:5]])
    assert close(read[0], alone(decoder, a)[8])
    assert close(stepped[0], alone(decoder, a)[9])
    assert close(later[0], alone(decoder, b)[4])
    again = batch.step([int(a[10]), int(b[5])])
    assert np.shares_memory(stepped, again)
    batch.feed_rows([0, 1], [a[11:13], b[6:8]])
    assert close(again[1], alone(decoder, b)[5])
    assert close(later[0], alone(decoder, b)[4])


def test_hidden_states_are_those_that_the_head_reads(
    decoder: Decoder, served: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ragged_runtime, "PIECE", 11)
    a, b = text(1, 48), text(2, 7)
    batch = RaggedBatch(served, slots=2)
    for _ in range(2):
        batch.join()
    states = batch.hidden_states(0, [a, b])
    assert [state.shape for state in states] == [(48, 48), (7, 48)]
    head = decoder.embed_tokens.weight.detach().numpy().T  # tied
    assert close(states[0] @ head, alone(decoder, a))
    assert close(states[1] @ head, alone(decoder, b))
    assert batch.remaining_context(1) == 41


def test_a_switch_of_sessions_binds_anew(decoder: Decoder, served: OnnxModel) -> None:
    row = text(3, 30)
    batch = RaggedBatch(served, slots=1)
    batch.prefill([row[:10]])
    batch.step([int(row[10])])
    served.use(served.open(2))
    for place in (11, 12):
        assert close(batch.step([int(row[place])])[0], alone(decoder, row)[place])


def test_calls_that_are_kept_are_bounded(
    decoder: Decoder, served: OnnxModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_call, "MAX_CALLS", 3)
    row = text(3, 48)
    batch = RaggedBatch(served, slots=1)
    batch.prefill([row[:1]])
    at = 1
    for width in (2, 3, 4, 5, 2, 6):
        found = batch.feed_rows([0], [row[at : at + width]])
        at += width
        assert close(found[0], alone(decoder, row)[at - 1])
        assert close(batch.step([int(row[at])])[0], alone(decoder, row)[at])
        at += 1
    assert len(batch._calls) == 3


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
    with pytest.raises(ValueError, match="not all in use"):
        batch.feed_rows([0, 1], [[1], [2]])
    with pytest.raises(ValueError, match=r"2 pieces for the rows \[0, 0\]"):
        batch.feed_rows([0, 0], [[1], [2]])
    with pytest.raises(ValueError, match="row 0: the piece is empty"):
        batch.feed_rows([0], [[]])
    with pytest.raises(ValueError, match="room for 38"):
        batch.feed_rows([0], [row[:30].tolist() * 2])
    assert close(batch.step([int(row[10])])[0], alone(decoder, row)[10])


def test_a_damaged_or_foreign_graph_is_one_clear_line(tmp_path: Path, served: OnnxModel) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"model\.onnx: onnxruntime cannot load it") as caught:
        OnnxModel(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="no such graph"):
        OnnxModel(tmp_path / "absent.onnx")


def test_a_graph_that_took_a_mask_is_to_be_exported_again(decoder: Decoder, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    plain = plain_graph(weights_of(decoder), half=False)
    save_graph(plain, path)
    with pytest.raises(DataError, match="not a graph of export_onnx"):
        OnnxModel(path)
    for value in plain.graph.output[1:]:  # as the older served graph called this dimension
        value.type.tensor_type.shape.dim[2].dim_param = "present"
    save_graph(plain, path)
    with pytest.raises(DataError, match=r"an older version.*export the model again"):
        OnnxModel(path)
