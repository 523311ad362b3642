"""Adapters in a training: put on a decoder, saved alone as PEFT reads them, merged at the end.

adapter/adapter_config.json         PEFT's fields: r, lora_alpha, target_modules ...
adapter/adapter_model.safetensors   A and B of each layer, under PEFT's names
adapter/base.json                   {"digest": ...} of the checkpoint that was adapted, and
                                    {"tokenizer": ...}, the digest of its tokenizer

PEFT loads the folder onto the exported checkpoint (``hf``). An adapter from elsewhere has no
``base.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import ConfigError, DataError
from components.text.chat.tokenizer_identity import TokenizerRecord
from components.text.decoder_files import save_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from models.decoder import Decoder
    from models.lora import Lora

FOLDER = "adapter"
CONFIG_FILE, WEIGHTS_FILE, BASE_FILE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "base.json",
)
_PEFT = "base_model.model."


class LoraConfig(StageConfig):
    """Low-rank adapters, the only thing that learns; AdamW moves them at ``optim.adam_lr``."""

    rank: int = Field(default=8, ge=1, le=4096, description="of the change to each matrix")
    alpha: float = Field(
        default=16.0, gt=0, le=1e6, description="the change is scaled by alpha / rank"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="share of an adapter's inputs left out in training"
    )
    rslora: bool = Field(default=False, description="scale by alpha / sqrt(rank) instead")
    targets: tuple[str, ...] = Field(
        default=("all-linear",),
        min_length=1,
        description="layers: last parts of names, whole names, patterns with *, or all-linear, "
        "which is all but the head",
    )
    quantize: bool = Field(
        default=False, description="hold the frozen matrices in 4 bits (QLoRA), head left out"
    )


def put_on(decoder: Decoder, config: LoraConfig, seed: int, field: str) -> None:
    """Freeze ``decoder``, in 4 bits where asked, and put adapters on it.

    Args:
        field: name of the config's field, for the error.

    Raises:
        ConfigError: a target names no layer, a rank is too large, or a matrix is shared.
    """
    import torch

    from models.lora import Lora, adapt, check
    from models.quantized_linear import quantize_linears

    spec = Lora(config.rank, config.alpha, config.dropout, config.rslora, config.targets)
    try:
        check(decoder, spec)
    except ValueError as error:
        raise ConfigError(f"{field}: {error}") from error
    torch.manual_seed(seed)
    if config.quantize:
        quantize_linears(decoder)
    adapt(decoder, spec)


def learning(decoder: Decoder) -> dict[str, nn.Module]:
    """What a job trains and saves: the adapters where there are any, else the decoder."""
    from models.lora import Learning, adapters

    return {"adapter": Learning(decoder)} if adapters(decoder) else {"decoder": decoder}


def after_step(decoder: Decoder) -> Callable[[bool], None] | None:
    """What a job does behind each step: balance a mixture's routers, unless they are frozen."""
    from models.lora import adapters

    return None if adapters(decoder) else decoder.rebalance


def save_trained(folder: Path, decoder: Decoder, config: LoraConfig | None, digest: str) -> None:
    """Write a trained decoder; one with adapters merged, and these beside."""
    from models.lora import bake

    if config is not None:
        save_adapter(folder / FOLDER, decoder, config, digest)
        bake(decoder)
    save_model(folder, decoder)


def save_adapter(folder: Path, decoder: Decoder, config: LoraConfig, digest: str) -> None:
    """Write the adapters alone; ``digest`` is that of the checkpoint they were put on."""
    from safetensors.torch import save_file

    from models.lora import adapters, factors

    folder.mkdir(exist_ok=True)
    state = {
        _outer(name): tensor.detach().contiguous() for name, tensor in factors(decoder).items()
    }
    save_file(state, folder / WEIGHTS_FILE, {"format": "pt"})
    told = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "target_modules": [_outer(name).removeprefix(_PEFT) for name in adapters(decoder)],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    _write(folder / CONFIG_FILE, told)
    _write(folder / BASE_FILE, {"digest": digest, "tokenizer": decoder.tokenizer})


def load_adapter(folder: Path, decoder: Decoder, digest: str | None = None) -> None:
    """Put the adapters of ``folder`` on ``decoder``.

    Args:
        digest: of the decoder's checkpoint; None takes an adapter of any other too.

    Raises:
        ConfigError: the adapter is of another model.
        DataError: a file is missing or damaged, or holds what is no LoRA of ours.
    """
    import torch

    from models.lora import adapt, factors

    state = _read_state(folder)
    _check_base(folder, digest)
    names = dict.fromkeys(name.rpartition(".lora_")[0] for name in state)
    try:
        adapt(decoder, _read_spec(folder, tuple(names)))
    except ValueError as error:
        raise ConfigError(f"adapter {folder.name} is of another model: {error}") from error
    wanted = factors(decoder)
    for name in sorted(wanted.keys() | state.keys()):
        has = tuple(state[name].shape) if name in state else None
        needs = tuple(wanted[name].shape) if name in wanted else None
        if has != needs:
            raise ConfigError(
                f"adapter {folder.name} is of another model: {name} is {has}, this model needs "
                f"{needs}"
            )
    with torch.no_grad():
        for name, tensor in wanted.items():
            tensor.copy_(state[name])


def _read_state(folder: Path) -> dict[str, Tensor]:
    """Our names -> tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder.name}: {WEIGHTS_FILE} cannot be read: {error}") from error
    strange = [name for name in state if not name.startswith(_PEFT) or ".lora_" not in name]
    if strange or not state:
        held = strange[0] if strange else "nothing"
        raise DataError(f"{folder.name}: {WEIGHTS_FILE} holds {held}, which is no LoRA of a layer")
    return {_inner(name): tensor for name, tensor in state.items()}


def _read_spec(folder: Path, targets: tuple[str, ...]) -> Lora:
    from models.lora import Lora

    told = _read(folder / CONFIG_FILE)
    try:
        kind, rank, alpha = told["peft_type"], int(told["r"]), float(told["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder.name}: {CONFIG_FILE} is damaged: {error!r}") from error
    # Each of these computes otherwise, so what came out would not be what was learnt.
    other = [name for name in ("use_dora", "rank_pattern", "alpha_pattern") if told.get(name)]
    if kind != "LORA" or other or rank < 1:
        found = other[0] if other else f"peft_type {kind}, r {rank}"
        raise DataError(f"{folder.name}: {CONFIG_FILE} has {found}; only plain LoRA can be read")
    return Lora(rank, alpha, rslora=bool(told.get("use_rslora")), targets=targets)


def record_of_adapter(folder: Path) -> TokenizerRecord:
    """The tokenizer that an adapter was learnt with; that of an adapter from elsewhere is unknown.

    Raises:
        DataError: ``base.json`` is damaged.
    """
    base = _read(folder / BASE_FILE) if (folder / BASE_FILE).is_file() else {}
    return TokenizerRecord(f"the adapter {folder.name}", str(base.get("tokenizer", "")), None)


def _check_base(folder: Path, digest: str | None) -> None:
    if digest is None or not (folder / BASE_FILE).is_file():
        return
    learnt = _read(folder / BASE_FILE).get("digest")
    if learnt != digest:
        raise ConfigError(
            f"adapter {folder.name} is of another model: it was learnt on the checkpoint "
            f"{str(learnt)[:12]}, this one is {digest[:12]}"
        )


def _outer(name: str) -> str:
    return _PEFT + (name if name.startswith("lm_head") else f"model.{name}")


def _inner(name: str) -> str:
    return name.removeprefix(_PEFT).removeprefix("model.")


def _read(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path.parent.name}: {path.name} cannot be read: {error}") from error
    if not isinstance(told, dict):
        raise DataError(f"{path.parent.name}: {path.name} is no JSON object")
    return told


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
