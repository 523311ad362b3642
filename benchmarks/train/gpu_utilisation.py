"""Training on one GPU: model FLOPs utilisation at two sizes, and nanoGPT's GPU setting."""

from __future__ import annotations

import time

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.train.char_corpus import DATA, heldout_loss, pack_letters
from benchmarks.train.step_time import random_tokens
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import OptimConfig
from models.shape import DecoderShape

SIZES = {"124 M": (12, 768), "350 M": (24, 1024)}
"""Name -> (layers, width) of GPT-2 small and medium."""
MIN_UTILISATION, MAX_LOSS, MAX_SECONDS = 0.5, 1.4697, 180.0
VOCABULARY = 50_304
STEPS = 40


def measure_gpu(setting: BenchSetting) -> list[BenchFigure]:
    """Utilisation at two sizes, then the character model's loss and its time."""
    import torch

    names = {size: f"one GPU, {size}, bf16: share of its matmul rate" for size in SIZES}
    letters = f"charlm, nanoGPT's GPU setting: held-out loss within {MAX_SECONDS:g} s"
    if not torch.cuda.is_available():
        return [BenchFigure.unavailable(name, "", "no GPU") for name in (*names.values(), letters)]
    figures = []
    for size, (layers, width) in SIZES.items():
        setting.on_progress(size)
        share = _measure_utilisation(setting, layers, width)
        figures.append(
            BenchFigure.against_target(names[size], share, "", MIN_UTILISATION, better="higher")
        )
    return [*figures, *_letter_figures(setting, letters)]


def _measure_utilisation(setting: BenchSetting, layers: int, width: int) -> float:
    """Share of the measured matmul rate, as the trainer reports it."""
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
    checkpoint = pretrain(config, random_tokens(root, VOCABULARY), work)
    return float(checkpoint.stats["utilisation"])


def _letter_figures(setting: BenchSetting, name: str) -> list[BenchFigure]:
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
    start = time.perf_counter()
    checkpoint = pretrain(config, letters.tokens, Workdir.temporary(setting.scratch))
    seconds = time.perf_counter() - start
    return [
        BenchFigure.against_target(
            name,
            heldout_loss(letters, checkpoint, 256),
            "nats",
            MAX_LOSS,
            note=f"({seconds:.1f} s)",
        ),
        BenchFigure.against_target(
            "charlm, nanoGPT's GPU setting: time", seconds, "s", MAX_SECONDS
        ),
    ]
