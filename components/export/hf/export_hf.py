"""Export to a transformers folder, which vLLM and others load too, without custom code.

The class follows from the shape: ``Qwen3ForCausalLM`` with QK-norm, ``LlamaForCausalLM`` without;
with experts ``Qwen3MoeForCausalLM`` and ``MixtralForCausalLM``.

config.json  model.safetensors  generation_config.json
tokenizer.json  tokenizer_config.json  chat_template.jinja
parity.json

What no class holds is refused before anything is written: see ``DecoderShape.unexportable``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.io.atomic_write import atomic_path
from components.core.store.artifact import Checkpoint, Export, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.hf.hf_config import CONFIG_FILE, hf_config
from components.export.hf.hf_tensors import WEIGHTS_FILE, hf_state_dict
from components.export.hf.import_hf import read_hf_model
from components.export.parity import (
    Parity,
    ParityConfig,
    measure_parity,
    parity_cases,
    reference_model,
    ship_tokenizer,
    write_parity,
)
from components.export.parity_forms import torch_form, transformers_form
from components.text.chat.chat_tokenizer import TEMPERATURE, ChatTokenizer, open_tokenizer
from components.text.chat.tokenizer_files import TEMPLATE_FILE

if TYPE_CHECKING:
    from models.decoder import Decoder

TOKENIZER_CONFIG_FILE = "tokenizer_config.json"
FilePrecision = Literal["float32", "bfloat16"]
_BOUNDS = {
    "float32": ParityConfig(kl_max=1e-10),
    "bfloat16": ParityConfig(kl_max=1e-2, top1_min=0.97, difference_max=2.0),
}


class HfConfig(StageConfig):
    """The folder that transformers loads."""

    precision: FilePrecision = Field(
        default="float32", description="dtype of the weights in the file"
    )
    temperature: float | None = Field(
        default=None,
        ge=0,
        le=2,
        description=(
            "temperature of answers to programs that set none; null takes the endpoint's "
            "(package.limits.temperature)"
        ),
    )
    parity: ParityConfig | None = Field(
        default=None,
        description="bounds against the torch model; None takes those of the precision",
    )


def export_hf(
    config: HfConfig, model: Checkpoint, tokenizer: Tokenizer, tokens: Tokens, work: Workdir
) -> Export:
    """Write model, tokenizer and chat template as a transformers folder, and measure its parity.

    Args:
        config: precision of the file, default temperature, bounds.
        model: the checkpoint to export.
        tokenizer: shipped in the folder.
        tokens: held-out text to measure on.
        work: where the folder is written.

    Raises:
        ConfigError: no class of transformers holds the shape; the inputs are of different
            tokenizers.
        DataError: an input is damaged, or holds no held-out tokens.
    """
    work.progress.start_count(2, "steps")
    pages = ship_tokenizer(
        "hf",
        work.artifact_folder(model),
        work.artifact_folder(tokens),
        work.artifact_folder(tokenizer),
        work.folder,
    )
    reference = reference_model(work.artifact_folder(model))
    temperature = TEMPERATURE if config.temperature is None else config.temperature
    words = open_tokenizer(work.folder)
    size = save_hf(work.folder, reference, config.precision, words)
    save_chat_settings(work.folder, words, reference.shape.context, temperature)
    work.progress.advance(note="folder")
    bounds = config.parity or _BOUNDS[config.precision]
    parity = measure_hf_parity(work.folder, reference, work.artifact_folder(tokens), bounds, pages)
    write_parity(work.folder, parity)
    work.progress.advance(note=parity.note)
    return work.seal(Export, stats={"bytes": size, **parity.stats})


def save_hf(
    folder: Path,
    model: Decoder,
    precision: FilePrecision = "float32",
    tokenizer: ChatTokenizer | None = None,
) -> int:
    """Write config and weights of a transformers folder; returns the bytes of the weights.

    Args:
        folder: takes the files.
        model: checkpoint that is exported.
        precision: precision of the weights in the file.
        tokenizer: names the special tokens' ids in the config; None leaves them out.

    Raises:
        ConfigError: no class of transformers holds the shape.
    """
    import torch
    from safetensors.torch import save_file

    kind = torch.float32 if precision == "float32" else torch.bfloat16
    config = hf_config(model.shape, precision, None if tokenizer is None else _token_ids(tokenizer))
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(hf_state_dict(model, kind), temporary, {"format": "pt"})
    _write(folder / CONFIG_FILE, config)
    return (folder / WEIGHTS_FILE).stat().st_size


def save_chat_settings(
    folder: Path, tokenizer: ChatTokenizer, context: int, temperature: float = TEMPERATURE
) -> None:
    """Write chat template, and settings of tokenizer and sampling; somebody's own ones stay.

    Args:
        folder: the transformers folder, ``tokenizer.json`` in it.
        tokenizer: that of the folder.
        context: tokens that the model reads.
        temperature: temperature of answers where a program names none; 0 is greedy.
    """
    _write(folder / "generation_config.json", _generation_config(tokenizer, context, temperature))
    if not (folder / TOKENIZER_CONFIG_FILE).is_file():
        _write(folder / TOKENIZER_CONFIG_FILE, _tokenizer_config(tokenizer, context))
    (folder / TEMPLATE_FILE).write_text(tokenizer.template.source, encoding="utf-8")


def _token_ids(tokenizer: ChatTokenizer) -> dict[str, int]:
    names = tokenizer.special.names
    tokens = {
        "bos_token_id": names.get("bos_token"),
        "eos_token_id": tokenizer.special.answer_ends[0],
        "pad_token_id": tokenizer.special.padding,
    }
    return {
        field: tokenizer.special_tokens[token]
        for field, token in tokens.items()
        if token in tokenizer.special_tokens
    }


def _generation_config(
    tokenizer: ChatTokenizer, context: int, temperature: float
) -> dict[str, Any]:
    """Sampling defaults of the endpoint, for ``generate`` and for servers that read this file.

    Each field is written, also where it changes nothing, since programs fill in missing ones
    differently: transformers samples from the 50 likeliest tokens, vLLM at temperature 1.
    """
    return {
        "do_sample": temperature > 0,
        "temperature": temperature,
        "top_k": 0,
        "top_p": 1.0,
        "repetition_penalty": 1.0,
        **_token_ids(tokenizer),
        "eos_token_id": list(tokenizer.stop_ids),
        # Not max_length, which counts the padding: in a batch it would cut the shorter prompts'
        # answers before their end. Without either, transformers stops after 20 tokens.
        "max_new_tokens": context,
    }


def _tokenizer_config(tokenizer: ChatTokenizer, context: int) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": context,
        **tokenizer.special.names,
        # Answers are written behind the prompt: padding between the two would be read as text.
        "padding_side": "left",
        "additional_special_tokens": list(tokenizer.special_tokens),
        "add_bos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": tokenizer.template.source,
    }


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def measure_hf_parity(
    folder: Path, reference: Decoder, tokens: Path, bounds: ParityConfig, pages: int = 0
) -> Parity:
    """Parity of a written folder: by transformers where it is installed, else by our own decoder.

    The second checks the file's names, shapes and values, yet takes transformers' reading of them
    on trust; ``measured_on`` says which of the two it was.

    Args:
        folder: the transformers folder.
        reference: the float32 torch model.
        tokens: folder of ``Tokens``.
        bounds: positions, and what passes.
        pages: result of ``ship_tokenizer``.
    """
    cases = parity_cases(reference, tokens, bounds)
    try:
        form, where = transformers_form(folder), "transformers, CPU"
    except ImportError:
        form = torch_form(read_hf_model(folder))
        where = "the folder's tensors in our own decoder: transformers is not installed"
    return measure_parity(form, cases, bounds, name="hf", measured_on=where, tokenizer_pages=pages)
