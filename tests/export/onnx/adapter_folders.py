"""Adapters with random factors, as fine-tuning saves them, and the merged model of each."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from components.train.trainer.adapter_training import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    LoraConfig,
    add_adapters,
    save_adapter,
)
from models.decoder import Decoder
from models.lora import lora_layers, merge_and_unload


def write_adapter(
    folder: Path,
    decoder: Decoder,
    *,
    rank: int = 4,
    seed: int = 1,
    targets: Sequence[str] = ("all-linear",),
    digest: str = "base",
) -> Decoder:
    """Write an adapter of ``decoder``; returns the decoder with it merged.

    Args:
        folder: is made.
        decoder: stays as it is.
        rank: rank of the update.
        seed: seed of both factors.
        targets: layers to adapt.
        digest: recorded as the base's.
    """
    adapted = copy.deepcopy(decoder)
    config = LoraConfig(rank=rank, alpha=2.0 * rank, targets=tuple(targets))
    add_adapters(adapted, config, seed, "lora")
    generator = torch.Generator().manual_seed(seed)
    for layer in lora_layers(adapted).values():
        weight = layer.lora_B.weight.data
        weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)
    folder.parent.mkdir(parents=True, exist_ok=True)
    save_adapter(folder, adapted, config, digest)
    merge_and_unload(adapted)
    return adapted.eval()


def edit_config(folder: Path, **fields: Any) -> None:
    """Change fields of an adapter's config."""
    path = folder / CONFIG_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def edit_weights(
    folder: Path, edit: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> None:
    """Change an adapter's tensors."""
    save_file(edit(load_file(folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)
