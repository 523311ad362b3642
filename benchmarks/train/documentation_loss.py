"""Bits per byte on the documentation corpus of ``tiny``: the autopilot beside AdamW with a cosine.

Equal tokens and minutes. Ours is the recipe of ``tiny`` with shape, batch and rates left to the
autopilot; the baseline has the shape and batch of ``tiny`` and the usual recipe of small models
(AdamW, 5 % warm-up, cosine to a tenth, full sequence length from the start, weight decay 0.1), at
the best of five rates (300 steps: 0.0006 2.023, 0.001 1.997, 0.0015 2.001, 0.003 2.151, 0.006 2.188
bits per byte). Three seeds each, in turn; the intervals are Student's over them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Sequence

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from components.core.store.artifact import Tokens
from components.core.store.store import Store
from components.core.store.workdir import Workdir
from components.evaluate.bits_per_byte import evaluate_loss
from components.train.pretrain import pretrain
from components.train.pretrain_config import PretrainConfig
from flows.configs.presets import tiny_run

NAME, UNIT = "documentation, 4 minutes: bits per byte", "bits/byte"
PEER = "AdamW with a cosine"
BUDGET = {"minutes": 4.0, "steps": None}
"""Equal time for both recipes."""
SEEDS = (0, 1, 2)
STUDENT_QUANTILE = 4.303
"""Student's 97.5 % quantile for three values."""


def measure_documentation(setting: BenchSetting) -> list[BenchFigure]:
    """Mean over the seeds beside the baseline's, gap of the intervals, use of the time budget."""
    tokens = copy_tiny_tokens(setting)
    if tokens is None:
        reason = "no tokens of `tiny` in the workspace: `modelmill run tiny --until tokens`"
        return [BenchFigure.unavailable(NAME, UNIT, reason)]
    our_bits, baseline_bits, overruns = list[float](), list[float](), list[float]()
    for seed in SEEDS:
        for recipe, results in ((own_recipe(), our_bits), (adamw_recipe(), baseline_bits)):
            bits, share = _train_and_evaluate(
                setting, recipe.model_copy(update={"seed": seed}), tokens
            )
            results.append(bits)
            overruns.append(share - 1.0)
            result = f"{bits:.4f} bits per byte in {share:.1%} of the time"
            setting.on_progress(f"seed {seed}, {recipe.optim.kind}: {result}")
    return [*compare_recipes(our_bits, baseline_bits), time_budget_figure(overruns)]


def time_budget_figure(overruns: Sequence[float]) -> BenchFigure:
    """Largest deviation of a training from its time budget, in shares of the budget."""
    farthest = max(overruns, key=abs)
    note = f"{len(overruns)} trainings, {min(overruns):+.1%} to {max(overruns):+.1%}"
    name = "documentation: distance from the time budget"
    return BenchFigure.against_target(name, abs(farthest), "", 0.05, note=note)


def compare_recipes(ours: Sequence[float], baseline: Sequence[float]) -> list[BenchFigure]:
    """Means of both recipes over the seeds, and the gap between their intervals."""
    low, high = student_interval(ours)
    other_low, other_high = student_interval(baseline)
    note = f"[{low:.4f}, {high:.4f}], the peer's [{other_low:.4f}, {other_high:.4f}]"
    mine, theirs = statistics.mean(ours), statistics.mean(baseline)
    return [
        BenchFigure.beside_peer(NAME, mine, UNIT, PEER, theirs, must_win=True, note=note),
        BenchFigure.against_target(
            "documentation: gap between the intervals", other_low - high, UNIT, 0.0, better="higher"
        ),
    ]


def student_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval by Student's t for the mean of three values."""
    assert len(values) == len(SEEDS)
    half = STUDENT_QUANTILE * statistics.stdev(values) / len(values) ** 0.5
    return statistics.mean(values) - half, statistics.mean(values) + half


def own_recipe() -> PretrainConfig:
    """Recipe of ``tiny`` with its open fields left to the autopilot."""
    return tiny_run().pretrain.model_copy(update={**BUDGET, "autopilot": True})


def adamw_recipe() -> PretrainConfig:
    """Baseline recipe of the same shape, batch and budget: AdamW with a cosine schedule."""
    optim = {"kind": "adamw", "adam_lr": 0.001, "embedding_lr": 0.001, "weight_decay": 0.1}
    schedule = {"kind": "cosine", "warmup": 0.05, "floor": 0.1}
    changes = {**BUDGET, "optim": optim, "schedule": schedule, "short": 0.0}
    return PretrainConfig.model_validate({**tiny_run().pretrain.model_dump(), **changes})


def copy_tiny_tokens(setting: BenchSetting) -> Tokens | None:
    """Copy the workspace's newest tokens with ``tiny``'s vocabulary into the scratch folder."""
    if not setting.settings.store.is_dir():
        return None
    vocabulary = tiny_run().pretrain.shape.vocabulary
    for manifest in reversed(Store(setting.settings.store).sealed_manifests()):
        if manifest["format"] != Tokens.format:
            continue
        tokens = Tokens.model_validate(manifest["artifact"])
        folder = setting.settings.store / tokens.name
        if json.loads((folder / "meta.json").read_text())["vocabulary"] == vocabulary:
            shutil.copytree(folder, setting.scratch / tokens.name)
            return tokens
    return None


def _train_and_evaluate(
    setting: BenchSetting, recipe: PretrainConfig, tokens: Tokens
) -> tuple[float, float]:
    """(bits per byte on held-out pages, seconds of the stage as a share of its budget)."""
    assert recipe.minutes is not None

    def work() -> Workdir:
        return Workdir.temporary(setting.scratch, component="bench.documentation")

    start = time.perf_counter()
    model = pretrain(recipe, tokens, work())
    share = (time.perf_counter() - start) / (60 * recipe.minutes)
    report = evaluate_loss(tiny_run().loss, model, tokens, work())
    return float(report.stats["bits_per_byte"]), share
