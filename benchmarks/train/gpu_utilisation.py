"""What one GPU gives: its share of the matmul rate, nanoGPT's GPU setting; absent without one."""

from __future__ import annotations

import time

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.train.char_corpus import DATA, heldout_loss, pack_letters
from benchmarks.train.step_time import drawn_tokens
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import OptimConfig
from models.shape import DecoderShape

SIZES = {"124 M": (12, 768), "350 M": (24, 1024)}
SHARE, LOSS, SECONDS = 0.5, 1.4697, 180.0
VOCABULARY = 50_304
STEPS = 40


def measure(setting: BenchSetting) -> list[BenchFigure]:
    """Utilisation at two sizes, then the loss on letters and the time that it took."""
    import torch

    named = {size: f"one GPU, {size}, bf16: share of its matmul rate" for size in SIZES}
    letters = f"charlm, nanoGPT's GPU setting: held-out loss within {SECONDS:g} s"
    if not torch.cuda.is_available():
        return [BenchFigure.unavailable(name, "", "no GPU") for name in (*named.values(), letters)]
    figures = []
    for size, (layers, width) in SIZES.items():
        setting.on_progress(size)
        share = _utilisation(setting, layers, width)
        figures.append(BenchFigure.against_target(named[size], share, "", SHARE, better="higher"))
    return [*figures, *_letters(setting, letters)]


def _utilisation(setting: BenchSetting, layers: int, width: int) -> float:
    """What the trainer itself says of its share of the rate that it measured."""
    heads = width // 64
    shape = DecoderShape(
        vocabulary=VOCABULARY,
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_width=64,
        hidden=width * 8 // 3 // 64 * 64,
        context=1024,
    )
    config = PretrainConfig(
        shape=shape,
        steps=STEPS,
        sequence_length=1024,
        short_sequence_length=1024,
        batch=1 << 17,
        micro_batch=1 << 15,
        precision="bfloat16",
        device="cuda",
    )
    root = setting.scratch
    work = Workdir.temporary(root, component="bench.gpu")
    made = pretrain(config, drawn_tokens(root, VOCABULARY), work)
    return float(made.stats["utilisation"])


def _letters(setting: BenchSetting, name: str) -> list[BenchFigure]:
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable(name, "nats", f"no reference data {DATA}")]
    letters = pack_letters(path, setting.scratch)
    shape = DecoderShape(
        vocabulary=letters.vocabulary,
        width=384,
        layers=6,
        heads=6,
        kv_heads=6,
        head_width=64,
        hidden=1024,
        context=256,
    )
    config = PretrainConfig(
        shape=shape,
        steps=300,
        sequence_length=256,
        short_sequence_length=64,
        batch=1 << 14,
        micro_batch=1 << 14,
        optim=OptimConfig(muon_lr=0.02, momentum=0.9, weight_decay=0.1),
        device="cuda",
    )
    began = time.perf_counter()
    made = pretrain(config, letters.tokens, Workdir.temporary(setting.scratch))
    seconds = time.perf_counter() - began
    return [
        BenchFigure.against_target(
            name, heldout_loss(letters, made, 256), "nats", LOSS, note=f"({seconds:.1f} s)"
        ),
        BenchFigure.against_target("charlm, nanoGPT's GPU setting: time", seconds, "s", SECONDS),
    ]
