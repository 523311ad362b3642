"""Tokens a second of transformers' Trainer at a given shape, with its defaults otherwise.

    python hf_trainer.py TOKENS.npy SHAPE.json ROWS SEQUENCE_LENGTH STEPS WARM_UPS

A randomly initialized Qwen3 in bfloat16 autocast on the CPU; prints the rate over the steps after
the warm-ups.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from transformers import (
    Qwen3Config,
    Qwen3ForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

TOKENS = np.load(Path(sys.argv[1])).astype(np.int64)
SHAPE: dict[str, Any] = json.loads(Path(sys.argv[2]).read_text())
ROWS, SEQUENCE_LENGTH, STEPS, WARM_UPS = map(int, sys.argv[3:])


class CorpusBlocks(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Consecutive tokens, cut into blocks of the sequence length."""

    def __len__(self) -> int:
        return int(len(TOKENS) // SEQUENCE_LENGTH)

    def __getitem__(self, at: int) -> dict[str, torch.Tensor]:
        ids = torch.from_numpy(TOKENS[at * SEQUENCE_LENGTH : (at + 1) * SEQUENCE_LENGTH])
        return {"input_ids": ids, "labels": ids}


class StepClock(TrainerCallback):
    """Callback that records the end time of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


def build_model() -> Any:
    return Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=SHAPE["vocabulary"],
            hidden_size=SHAPE["width"],
            intermediate_size=SHAPE["hidden"],
            num_hidden_layers=SHAPE["layers"],
            num_attention_heads=SHAPE["heads"],
            num_key_value_heads=SHAPE["kv_heads"],
            head_dim=SHAPE["head_width"],
            max_position_embeddings=SHAPE["context"],
            tie_word_embeddings=SHAPE["tied"],
        )
    )


def main() -> None:
    clock = StepClock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=ROWS,
            bf16=True,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        Trainer(
            model=build_model(), args=arguments, train_dataset=CorpusBlocks(), callbacks=[clock]
        ).train()
    seconds = clock.ends[-1] - clock.ends[WARM_UPS - 1]
    rate = ROWS * SEQUENCE_LENGTH * (STEPS - WARM_UPS) / seconds
    sys.stdout.write(json.dumps(rate) + "\n")


main()
