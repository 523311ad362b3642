"""Low-rank adapters in a training: added to a decoder, saved in PEFT's format, merged at the end.

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
    from models.lora import LoraSpec

ADAPTER_FOLDER = "adapter"
CONFIG_FILE, WEIGHTS_FILE, BASE_FILE = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "base.json",
)
_PEFT_PREFIX = "base_model.model."


class LoraConfig(StageConfig):
    """Low-rank adapters in place of full fine-tuning; AdamW trains them at ``optim.adam_lr``."""

    rank: int = Field(default=8, ge=1, le=4096, description="rank of the update to each matrix")
    alpha: float = Field(
        default=16.0, gt=0, le=1e6, description="the update is scaled by alpha / rank"
    )
    dropout: float = Field(
        default=0.0, ge=0, lt=1, description="dropout on the inputs of the adapters"
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


def add_adapters(decoder: Decoder, config: LoraConfig, seed: int, field: str) -> None:
    """Freeze ``decoder``, in 4 bits where asked, and add adapters to it.

    Args:
        decoder: changed in place.
        config: rank, scale and targets.
        seed: seed of the adapters' first weights.
        field: name of the config's field, for the error.

    Raises:
        ConfigError: a target names no layer, a rank is too large, or a matrix is shared.
    """
    import torch

    from models.lora import LoraSpec, add_lora, check_lora
    from models.quantized_linear import quantize_linears

    spec = LoraSpec(config.rank, config.alpha, config.dropout, config.rslora, config.targets)
    try:
        check_lora(decoder, spec)
    except ValueError as error:
        raise ConfigError(f"{field}: {error}") from error
    torch.manual_seed(seed)
    if config.quantize:
        quantize_linears(decoder)
    add_lora(decoder, spec)


def trained_modules(decoder: Decoder) -> dict[str, nn.Module]:
    """Modules that a job trains and saves: the adapters where there are any, else the decoder."""
    from models.lora import AdapterParameters, lora_layers

    return {"adapter": AdapterParameters(decoder)} if lora_layers(decoder) else {"decoder": decoder}


def rebalance_hook(decoder: Decoder) -> Callable[[bool], None] | None:
    """Hook after each step that balances a mixture's routers; None where they are frozen."""
    from models.lora import lora_layers

    return None if lora_layers(decoder) else decoder.rebalance


def save_trained(folder: Path, decoder: Decoder, config: LoraConfig | None, digest: str) -> None:
    """Save a trained decoder; adapters are saved beside it and merged.

    Args:
        folder: folder of the checkpoint.
        decoder: becomes a plain one.
        config: config of the adapters; None for none.
        digest: digest of the checkpoint that the adapters belong to.
    """
    from models.lora import merge_and_unload

    if config is not None:
        save_adapter(folder / ADAPTER_FOLDER, decoder, config, digest)
        merge_and_unload(decoder)
    save_model(folder, decoder)


def save_adapter(folder: Path, decoder: Decoder, config: LoraConfig, digest: str) -> None:
    """Save the adapters alone, in PEFT's format.

    Args:
        folder: is made.
        decoder: decoder with adapters.
        config: config of the adapters.
        digest: digest of the checkpoint that they belong to.
    """
    from safetensors.torch import save_file

    from models.lora import lora_layers, lora_tensors

    folder.mkdir(exist_ok=True)
    state = {
        _to_peft_name(name): tensor.detach().contiguous()
        for name, tensor in lora_tensors(decoder).items()
    }
    save_file(state, folder / WEIGHTS_FILE, {"format": "pt"})
    peft_config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "use_rslora": config.rslora,
        "target_modules": [
            _to_peft_name(name).removeprefix(_PEFT_PREFIX) for name in lora_layers(decoder)
        ],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    _write_json(folder / CONFIG_FILE, peft_config)
    _write_json(folder / BASE_FILE, {"digest": digest, "tokenizer": decoder.tokenizer})


def load_adapter(folder: Path, decoder: Decoder, digest: str | None = None) -> None:
    """Add the adapters of a folder to a decoder.

    Args:
        folder: that ``save_adapter`` or PEFT wrote.
        decoder: changed in place.
        digest: digest of the decoder's checkpoint; None accepts an adapter of any other too.

    Raises:
        ConfigError: the adapter is of another model.
        DataError: a file is missing or damaged, or holds what is no LoRA of ours.
    """
    import torch

    from models.lora import add_lora, lora_tensors

    state = _read_state(folder)
    _check_base(folder, digest)
    names = dict.fromkeys(name.rpartition(".lora_")[0] for name in state)
    try:
        add_lora(decoder, _read_spec(folder, tuple(names)))
    except ValueError as error:
        raise ConfigError(f"adapter {folder.name} is of another model: {error}") from error
    adapter_tensors = lora_tensors(decoder)
    for name in sorted(adapter_tensors.keys() | state.keys()):
        has = tuple(state[name].shape) if name in state else None
        needs = tuple(adapter_tensors[name].shape) if name in adapter_tensors else None
        if has != needs:
            raise ConfigError(
                f"adapter {folder.name} is of another model: {name} is {has}, this model needs "
                f"{needs}"
            )
    with torch.no_grad():
        for name, tensor in adapter_tensors.items():
            tensor.copy_(state[name])


def _read_state(folder: Path) -> dict[str, Tensor]:
    """Our names -> tensors."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise DataError(f"{folder.name}: {WEIGHTS_FILE} cannot be read: {error}") from error
    strange = [name for name in state if not name.startswith(_PEFT_PREFIX) or ".lora_" not in name]
    if strange or not state:
        content = strange[0] if strange else "nothing"
        raise DataError(
            f"{folder.name}: {WEIGHTS_FILE} holds {content}, which is no LoRA of a layer"
        )
    return {_from_peft_name(name): tensor for name, tensor in state.items()}


def _read_spec(folder: Path, targets: tuple[str, ...]) -> LoraSpec:
    from models.lora import LoraSpec

    peft_config = _read_json(folder / CONFIG_FILE)
    try:
        kind, rank, alpha = (
            peft_config["peft_type"],
            int(peft_config["r"]),
            float(peft_config["lora_alpha"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{folder.name}: {CONFIG_FILE} is damaged: {error!r}") from error
    # Each of these computes differently, so the result would not be what was trained.
    other = [
        name for name in ("use_dora", "rank_pattern", "alpha_pattern") if peft_config.get(name)
    ]
    if kind != "LORA" or other or rank < 1:
        unsupported = other[0] if other else f"peft_type {kind}, r {rank}"
        raise DataError(
            f"{folder.name}: {CONFIG_FILE} has {unsupported}; only plain LoRA can be read"
        )
    return LoraSpec(rank, alpha, rslora=bool(peft_config.get("use_rslora")), targets=targets)


def record_of_adapter(folder: Path) -> TokenizerRecord:
    """Tokenizer that an adapter was trained with; unknown for an adapter from elsewhere.

    Raises:
        DataError: ``base.json`` is damaged.
    """
    base = _read_json(folder / BASE_FILE) if (folder / BASE_FILE).is_file() else {}
    return TokenizerRecord(f"the adapter {folder.name}", str(base.get("tokenizer", "")), None)


def _check_base(folder: Path, digest: str | None) -> None:
    if digest is None or not (folder / BASE_FILE).is_file():
        return
    base_digest = _read_json(folder / BASE_FILE).get("digest")
    if base_digest != digest:
        raise ConfigError(
            f"adapter {folder.name} is of another model: it was learnt on the checkpoint "
            f"{str(base_digest)[:12]}, this one is {digest[:12]}"
        )


def _to_peft_name(name: str) -> str:
    return _PEFT_PREFIX + (name if name.startswith("lm_head") else f"model.{name}")


def _from_peft_name(name: str) -> str:
    return name.removeprefix(_PEFT_PREFIX).removeprefix("model.")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(f"{path.parent.name}: {path.name} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path.parent.name}: {path.name} is no JSON object")
    return content


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
