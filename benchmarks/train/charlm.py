"""Character model on Shakespeare: time to nanoGPT's published loss, and loss after 70 s.

nanoGPT's own recipe runs beside ours on the same split and is evaluated by the same protocol: every
held-out position once, in blocks of the context. Our time is that of the whole stage, saving
included.
"""

from __future__ import annotations

import time

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.train.char_corpus import DATA, CharCorpus, heldout_loss, pack_letters
from components.core.store.workdir import Workdir
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from components.train.training_config import OptimConfig
from models.shape import DecoderShape

TARGET_LOSS, MAX_TIME_SHARE = 1.88, 0.25
"""nanoGPT's published CPU loss, and the share of its time in which it must be reached."""
PEER_STEPS = 2000
BUDGET_SECONDS, FREE_LOSS, FREE_PARAMETERS = 70.0, 1.57, 1_000_000
PEER = "nanoGPT's CPU setting"


def quick_recipe(vocabulary: int) -> PretrainConfig:
    """nanoGPT's shape and context: 4 layers, 4 heads, width 128, 64 characters."""
    shape = DecoderShape(
        vocabulary=vocabulary,
        width=128,
        layers=4,
        heads=4,
        kv_heads=4,
        head_width=32,
        hidden=344,
        context=64,
    )
    return PretrainConfig(
        shape=shape,
        steps=90,
        sequence_length=64,
        short_sequence_length=32,
        short=0.5,
        batch=3072,
        optim=OptimConfig(muon_lr=0.02, momentum=0.9),
    )


def free_recipe(vocabulary: int) -> PretrainConfig:
    """Best recipe found for 70 s on two cores with less than a million parameters."""
    shape = DecoderShape(
        vocabulary=vocabulary,
        width=128,
        layers=4,
        heads=4,
        kv_heads=4,
        head_width=32,
        hidden=344,
        context=256,
    )
    return PretrainConfig(
        shape=shape,
        minutes=BUDGET_SECONDS / 60,
        sequence_length=256,
        short_sequence_length=64,
        short=0.5,
        batch=4096,
        optim=OptimConfig(muon_lr=0.02, momentum=0.9),
    )


def measure_time_to_loss(setting: BenchSetting) -> list[BenchFigure]:
    """Loss reached, and seconds to the published loss beside nanoGPT's."""
    name, unit = f"charlm: time to a held-out loss of {TARGET_LOSS}", "s"
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable(name, unit, f"no reference data {DATA}")]
    letters = pack_letters(path, setting.scratch)
    seconds, loss = _train_on_letters(letters, quick_recipe(letters.vocabulary))
    setting.on_progress(f"loss {loss:.4f} after {seconds:.1f} s; now {PEER}")
    files = [str(letters.folder / f"{split}.npy") for split in ("train", "heldout")]
    arguments = [str(letters.vocabulary), str(TARGET_LOSS), str(PEER_STEPS)]
    peer: list[float] = setting.run_peer("nanogpt_char", "torch", *files, *arguments)
    note = f"the peer's loss {peer[2]:.4f} after {peer[1]:,.0f} steps"
    return [
        BenchFigure.against_target(
            f"charlm: loss after {seconds:.1f} s", loss, "nats", TARGET_LOSS
        ),
        BenchFigure.against_target(
            f"{name}, share of {PEER}", seconds / peer[0], "", MAX_TIME_SHARE
        ),
        BenchFigure.beside_peer(name, seconds, unit, PEER, peer[0], must_win=True, note=note),
    ]


def measure_loss_in_budget(setting: BenchSetting) -> list[BenchFigure]:
    """Held-out loss after 70 s of training, the shape free up to a million parameters."""
    name, unit = f"charlm: held-out loss after {BUDGET_SECONDS:g} s, 1 M parameters", "nats"
    path = setting.find_reference(DATA)
    if path is None:
        return [BenchFigure.unavailable(name, unit, f"no reference data {DATA}")]
    letters = pack_letters(path, setting.scratch)
    recipe = free_recipe(letters.vocabulary)
    assert recipe.shape.parameters <= FREE_PARAMETERS
    seconds, loss = _train_on_letters(letters, recipe)
    note = f"({recipe.shape.parameters:,} parameters, {seconds:.1f} s)"
    return [BenchFigure.against_target(name, loss, unit, FREE_LOSS, note=note)]


def _train_on_letters(letters: CharCorpus, recipe: PretrainConfig) -> tuple[float, float]:
    """(seconds of the whole stage, held-out loss)."""
    work = Workdir.temporary(letters.root, component="bench.charlm")
    start = time.perf_counter()
    checkpoint = pretrain(recipe, letters.tokens, work)
    seconds = time.perf_counter() - start
    return seconds, heldout_loss(letters, checkpoint, recipe.sequence_length)
