"""Bits per byte: every token once, with its own page before it, beside xz."""

from __future__ import annotations

import json
import lzma
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from torch.nn import functional as F

from components.core.errors import ConfigError, DataError
from components.core.stats.figures import read_report
from components.core.stats.report_items import read_items
from components.core.store.artifact import Checkpoint, Tokens
from components.core.store.workdir import Workdir
from components.evaluate.bits_per_byte import LossConfig, draw_pages, evaluate_loss, page_windows
from components.evaluate.sequence_likelihood import (
    batch_by_length,
    continuation_span,
    span_log_likelihoods,
)
from components.text.decoder_files import save_model
from components.text.token_arrays import TokenSplit, save_split
from models.decoder import Decoder
from models.shape import DecoderShape

SHAPE = DecoderShape(
    vocabulary=64, width=32, layers=1, heads=2, kv_heads=1, head_width=16, hidden=48, context=32
)
TEXTS = ["a page of some length " * 3, "another one, ünlike it", "x" * 50]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


def sealed_tokens(store: Path, texts: list[str] = TEXTS) -> Tokens:
    work = Workdir.temporary(store)
    documents = [[1 + byte % 63 for byte in text.encode()] + [0] for text in texts]
    for split in ("train", "heldout"):
        save_split(work.folder, split, documents, 64)  # type: ignore[arg-type]
    names = [f"page{index}" for index in range(len(texts))]
    columns = {"id": pa.array(names, pa.string()), "text": pa.array(texts, pa.string())}
    pq.write_table(pa.table(columns), work.folder / "heldout.parquet")
    size = sum(len(text.encode()) for text in texts)
    meta = {"vocabulary": 64, "eos": 0, "train_bytes": size, "heldout_bytes": size}
    (work.folder / "meta.json").write_text(json.dumps(meta))
    return work.seal(Tokens)


def sealed_model(store: Path, *, uniform: bool = False, shape: DecoderShape = SHAPE) -> Checkpoint:
    work = Workdir.temporary(store)
    torch.manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.0 if uniform else 5.0)
    save_model(work.folder, model)
    return work.seal(Checkpoint)


def split_of(lengths: list[int]) -> TokenSplit:
    starts = np.concatenate(([0], np.cumsum(lengths))).astype(np.int64)
    return TokenSplit(np.arange(1, starts[-1] + 1), starts, 1 << 20, 0, 1)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 12, 13, 40])
def test_windows_predict_every_token_once_with_context(length: int) -> None:
    split = split_of([length])
    windows = page_windows(split, 0, LossConfig(window=8, stride=4))
    predicted = [int(t) for w in windows for t in w.span.ids[w.span.start :]]
    assert predicted == list(range(1, length + 1))
    assert all(len(w.span.ids) <= 8 for w in windows)
    assert all(w.span.start >= 4 for w in windows[1:])
    assert windows[0].span.ids[0] == 0


def test_a_uniform_model_pays_log2_of_the_vocabulary(store: Path, work: Workdir) -> None:
    made = evaluate_loss(
        LossConfig(window=32, stride=16, precision="float32"),
        sealed_model(store, uniform=True),
        sealed_tokens(store),
        Workdir.temporary(store),
    )
    figure = read_report(store / made.name)["bits_per_byte"]
    size = sum(len(text.encode()) for text in TEXTS)
    assert figure.value == pytest.approx(6.0 * (size + len(TEXTS)) / size, rel=1e-5)
    assert figure.n == 3
    assert figure.low <= figure.value <= figure.high


def test_xz_is_that_of_the_texts_alone(store: Path) -> None:
    made = evaluate_loss(
        LossConfig(window=32, stride=16),
        sealed_model(store),
        sealed_tokens(store),
        Workdir.temporary(store),
    )
    content = "\n".join(TEXTS).encode()
    size = len(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    figure = read_report(store / made.name)["xz_bits_per_byte"]
    assert figure.value == pytest.approx(8 * size / len(content))


def test_padding_and_batching_change_nothing(store: Path) -> None:
    torch.manual_seed(0)
    model = Decoder(SHAPE).eval()
    spans = [
        continuation_span([0, 5, 6], [7, 8]),
        continuation_span([0], [9]),
        continuation_span([0, 1], [2, 3, 4, 5]),
    ]
    together = span_log_likelihoods(model, spans, [0, 1, 2])
    for row, one in enumerate(spans):
        ids = torch.from_numpy(one.ids)[None]
        losses = F.cross_entropy(model(ids[:, :-1])[0], ids[0, 1:], reduction="none")
        assert together[row] == pytest.approx(-losses[one.start - 1 :].sum().item(), rel=1e-5)


def test_batches_stay_within_the_tokens() -> None:
    lengths = [5, 3, 9, 3, 4, 100]
    runs = list(batch_by_length(lengths, 12))
    assert sorted(index for run in runs for index in run) == list(range(6))
    assert all(len(run) == 1 or len(run) * max(lengths[i] for i in run) <= 12 for run in runs)


def test_pages_are_drawn_within_the_bound_and_one_at_least() -> None:
    lengths, names = np.array([50, 10, 10, 10, 10]), list("abcde")
    some = draw_pages(lengths, names, LossConfig(most_tokens=30))
    assert sum(int(lengths[page]) for page in some) <= 50
    assert len(draw_pages(lengths, names, LossConfig(most_tokens=1))) == 1
    assert draw_pages(lengths, names, LossConfig()) == [0, 1, 2, 3, 4]


def test_a_corpus_that_grew_is_measured_on_most_of_the_same_pages() -> None:
    names = [f"page{index}" for index in range(100)]
    config = LossConfig(most_tokens=300)
    before = {names[p] for p in draw_pages(np.full(100, 10), names, config)}
    grown = ["new0", *names, "new1", "new2"]
    after = {grown[p] for p in draw_pages(np.full(103, 10), grown, config)}
    assert len(before) == len(after) == 30
    assert len(before & after) >= 27


def test_items_are_the_pages_and_name_how_they_were_read(store: Path) -> None:
    model, tokens = sealed_model(store), sealed_tokens(store)
    found = {}
    for stride in (16, 8):
        config = LossConfig(window=32, stride=stride, precision="float32")
        made = evaluate_loss(config, model, tokens, Workdir.temporary(store))
        figure, items = (
            read_report(store / made.name)["bits_per_byte"],
            read_items(store / made.name),
        )
        assert items is not None
        assert sorted(items.pages) == ["page0", "page1", "page2"]
        sums = items.values["bits_per_byte"].sum() / items.weights.sum()
        assert figure.value == pytest.approx(sums)
        found[stride] = set(items.keys)
    assert not found[16] & found[8]


def test_another_vocabulary_is_refused(store: Path, work: Workdir) -> None:
    shape = DecoderShape(**{**SHAPE.__dict__, "vocabulary": 80})
    with pytest.raises(ConfigError, match=r"of 80, .*of 64, .* different tokenizers"):
        evaluate_loss(LossConfig(), sealed_model(store, shape=shape), sealed_tokens(store), work)


def test_a_window_beyond_the_context_is_refused(store: Path, work: Workdir) -> None:
    with pytest.raises(ConfigError, match=r"loss.window \(512\) .* \(32\)"):
        evaluate_loss(LossConfig(), sealed_model(store), sealed_tokens(store), work)


def test_no_heldout_page_is_an_error(store: Path, work: Workdir) -> None:
    config = LossConfig(window=32, stride=16)
    with pytest.raises(DataError, match="no page is held out"):
        evaluate_loss(config, sealed_model(store), sealed_tokens(store, []), work)


def test_bfloat16_is_close_to_float32(store: Path) -> None:
    model, tokens = sealed_model(store), sealed_tokens(store)
    found = []
    for precision in ("float32", "bfloat16"):
        config = LossConfig(window=32, stride=16, precision=precision)  # type: ignore[arg-type]
        made = evaluate_loss(config, model, tokens, Workdir.temporary(store))
        found.append(made.stats["bits_per_byte"])
    assert math.isclose(*found, rel_tol=5e-3)
