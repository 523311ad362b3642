"""Tokens a second at the shape of ``tiny``, beside transformers' Trainer on the same tokens.

Equal shape, batch, sequence length and precision (bfloat16); each uses its defaults otherwise, so
ours runs Muon with a document mask, theirs AdamW without one. The rounds alternate, since a
machine's speed drifts.
"""

from __future__ import annotations

import dataclasses
import json
import statistics

from benchmarks.bench_report import BenchFigure
from benchmarks.bench_setting import BenchSetting
from benchmarks.train.step_time import measure_step_seconds, random_tokens
from components.train.pretrain_config import PretrainConfig
from flows.configs.presets import tiny_run

NAME, UNIT, TARGET = "tokens/s at the shape of tiny", "/s", 1.5
PEER = "transformers' Trainer"
STEPS, WARM_UPS = 16, 4


def measure_trainer(setting: BenchSetting) -> list[BenchFigure]:
    """Tokens a second, and the median ratio to the peer's."""
    config = timed_recipe()
    tokens = random_tokens(setting.scratch, config.shape.vocabulary)
    shape = setting.scratch / "shape.json"
    shape.write_text(json.dumps(dataclasses.asdict(config.shape)))
    rows = str(config.batch // config.sequence_length)
    arguments = [rows, str(config.sequence_length), str(STEPS), str(WARM_UPS)]
    file = setting.scratch / tokens.name / "train.npy"
    ours, theirs, ratios = list[float](), list[float](), list[float]()
    for number in range(setting.repeats):
        setting.on_progress(f"round {number + 1} of {setting.repeats}")
        ours.append(config.batch / measure_step_seconds(config, tokens, setting.scratch, WARM_UPS))
        peer = setting.run_peer("hf_trainer", "accelerate", str(file), str(shape), *arguments)
        if peer is None:
            return [BenchFigure.unavailable(NAME, UNIT, "transformers' Trainer needs accelerate")]
        theirs.append(peer)
        ratios.append(ours[-1] / peer)
    rate, other = statistics.median(ours), statistics.median(theirs)
    return [
        BenchFigure.against_target(
            f"{NAME}, times {PEER}", statistics.median(ratios), "", TARGET, better="higher"
        ),
        BenchFigure.beside_peer(NAME, rate, UNIT, PEER, other, must_win=True, better="higher"),
    ]


def timed_recipe() -> PretrainConfig:
    """Recipe of ``tiny`` with one sequence length, in bfloat16, for ``STEPS`` steps."""
    preset = tiny_run().pretrain.model_dump()
    changes = {"short": 0.0, "minutes": 4.0, "steps": STEPS, "precision": "bfloat16"}
    return PretrainConfig.model_validate({**preset, **changes})
