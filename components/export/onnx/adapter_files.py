"""Adapters in PEFT's format as arrays for a served graph, checked before anything is computed.

Read are safetensors alone. What would compute something else than plain LoRA over this base is
refused by name: DoRA, patterns of ranks, initialisations that change the base, trained embeddings.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from components.core.errors import ConfigError
from components.export.onnx.graph_builder import Array
from components.train.trainer.adapter_training import (
    ADAPTER_FOLDER,
    BASE_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
)

MAX_RANK = 1024
"""Beyond it an adapter costs as much as the matrix it adapts."""
_PREFIX = "base_model.model."
_JSON_BYTES = 1 << 20
_FACTORS = {".lora_A.weight": "A", ".lora_B.weight": "B"}
_OTHER_METHODS = (
    "use_dora", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "modules_to_save", "lora_bias",
    "use_qalora", "trainable_token_indices", "target_parameters", "alora_invocation_tokens",
)  # fmt: skip
"""Fields of PEFT's LoraConfig under which an adapter computes otherwise."""
_CHANGED_BASE = ("pissa", "olora", "loftq", "corda")
"""Initialisations that subtract from the base's weights: over the plain base they are wrong."""
_UNSERVED = ("lm_head", "embed_tokens")


@dataclass(frozen=True)
class LoraFactors:
    """Update of one layer: ``x @ down @ up`` is added to its output."""

    down: Array
    """[in, r], float32"""
    up: Array
    """[r, out], float32, with the adapter's scale in it"""


@dataclass(frozen=True)
class ServedAdapter:
    """One adapter, by its name in requests."""

    name: str
    folder: Path
    digest: str
    """sha256 of its weights and of its config."""
    layers: Mapping[str, LoraFactors]
    """``layers.0.self_attn.q_proj`` -> its factors."""
    base_digest: str
    """Digest of the checkpoint that it was trained on; empty where none is recorded."""
    base_name: str
    """Name or path of its base as PEFT recorded it; empty where none is."""

    @property
    def rank(self) -> int:
        """Highest rank of its layers."""
        return max(int(factors.down.shape[1]) for factors in self.layers.values())


def read_adapter(name: str, folder: Path) -> ServedAdapter:
    """Read an adapter of PEFT's, or of a checkpoint that was trained with adapters.

    Args:
        name: name that requests ask for.
        folder: holds ``adapter_config.json``, itself or in ``adapter/``.

    Raises:
        ConfigError: a file is missing or damaged, or holds more than plain LoRA of linear layers.
    """
    place = f"--adapter {name}"
    if (folder / ADAPTER_FOLDER / CONFIG_FILE).is_file():
        folder = folder / ADAPTER_FOLDER
    if not (folder / CONFIG_FILE).is_file():
        raise ConfigError(f"{place}: {folder} holds no {CONFIG_FILE}: give a folder of PEFT's")
    config = _read_json(place, folder / CONFIG_FILE)
    scale, rank = _read_scale(place, config)
    layers = {
        layer: _scale_factors(f"{place}: {layer}", pair, scale, rank)
        for layer, pair in _read_pairs(place, folder / WEIGHTS_FILE).items()
    }
    base = _read_json(place, folder / BASE_FILE) if (folder / BASE_FILE).is_file() else {}
    content = hashlib.sha256()
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        content.update(hashlib.sha256((folder / file).read_bytes()).digest())
    return ServedAdapter(
        name=name,
        folder=folder,
        digest=content.hexdigest(),
        layers=layers,
        base_digest=str(base.get("digest") or ""),
        base_name=str(config.get("base_model_name_or_path") or ""),
    )


def _read_scale(place: str, config: Mapping[str, Any]) -> tuple[float, int]:
    """(factor on the update, rank) of a config.

    Raises:
        ConfigError: it is not of plain LoRA.
    """
    kind = config.get("peft_type")
    if kind != "LORA":
        raise ConfigError(f"{place}: peft_type {kind} is not served; LORA is")
    initial = str(config.get("init_lora_weights", "")).lower()
    others = [field for field in _OTHER_METHODS if config.get(field)]
    if initial.startswith(_CHANGED_BASE):
        others.append(f"init_lora_weights {initial}")
    if config.get("bias", "none") != "none":
        others.append("bias")
    if others:
        raise ConfigError(f"{place}: {CONFIG_FILE} has {others[0]}; only plain LoRA is served")
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not _is_number(rank) or not _is_number(alpha) or not 1 <= rank <= MAX_RANK or rank % 1:
        raise ConfigError(
            f"{place}: {CONFIG_FILE} has r {rank}, lora_alpha {alpha}; r is 1 to {MAX_RANK}"
        )
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank), int(rank)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _read_pairs(place: str, path: Path) -> dict[str, dict[str, Array]]:
    """Layer -> {"A": [r, in], "B": [out, r]}.

    Raises:
        ConfigError: the file cannot be read, or holds what is no LoRA of a layer.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        hint = "; a pickle (adapter_model.bin) is never opened" if not path.exists() else ""
        raise ConfigError(f"{place}: {path.name} cannot be read: {error}{hint}") from error
    pairs: dict[str, dict[str, Array]] = {}
    for full_name, tensor in tensors.items():
        name = full_name.removeprefix(_PREFIX).removeprefix("model.")
        if unserved := next((part for part in _UNSERVED if part in name.split(".")), None):
            raise ConfigError(
                f"{place}: it adapts {unserved}; embeddings and heads are served without adapters: "
                f"train it on the linear layers alone (all-linear)"
            )
        ending = next((ending for ending in _FACTORS if name.endswith(ending)), None)
        if ending is None or tensor.dim() != 2 or not tensor.dtype.is_floating_point:
            raise ConfigError(
                f"{place}: {path.name} holds {full_name}, which is no LoRA of a linear layer"
            )
        array = tensor.to(torch.float32).numpy()
        if not np.isfinite(array).all():
            raise ConfigError(f"{place}: {full_name} holds a value that is no number")
        pairs.setdefault(name.removesuffix(ending), {})[_FACTORS[ending]] = array
    if not pairs:
        raise ConfigError(f"{place}: {path.name} is empty")
    return pairs


def _scale_factors(place: str, pair: Mapping[str, Array], scale: float, rank: int) -> LoraFactors:
    if pair.keys() != {"A", "B"}:
        missing = ({"A", "B"} - pair.keys()).pop()
        raise ConfigError(f"{place} has no lora_{missing}")
    down, up = pair["A"].T, pair["B"].T * np.float32(scale)
    if not down.shape[1] == up.shape[0] == rank:
        raise ConfigError(
            f"{place} has lora_A {pair['A'].shape} and lora_B {pair['B'].shape}, which are not of "
            f"rank {rank}"
        )
    return LoraFactors(np.ascontiguousarray(down), np.ascontiguousarray(up))


def _read_json(place: str, path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _JSON_BYTES:
            raise ValueError(f"more than {_JSON_BYTES} bytes")
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{place}: {path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{place}: {path.name} is no JSON object")
    return content
