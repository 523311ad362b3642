"""Write a model's GGUF file, weights in Q8_0: ``python`` this MODEL_FOLDER OUTPUT.

MODEL_FOLDER holds shape.json, weights.npz and bundle/tokenizer.json. A decoder with norms of
queries and keys is Qwen3's architecture, whose rotary halves lie as ours do.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(folder: Path, output: Path) -> None:
    """Write the file.

    Args:
        folder: of the model.
        output: the file.
    """
    shape = json.loads((folder / "shape.json").read_text())
    writer = gguf.GGUFWriter(str(output), "qwen3")
    writer.add_name("bench")
    writer.add_context_length(shape["context"])
    writer.add_embedding_length(shape["width"])
    writer.add_block_count(shape["layers"])
    writer.add_feed_forward_length(shape["hidden"])
    writer.add_head_count(shape["heads"])
    writer.add_head_count_kv(shape["kv_heads"])
    writer.add_key_length(shape["head_width"])
    writer.add_value_length(shape["head_width"])
    writer.add_rope_freq_base(shape["rope_base"])
    writer.add_layer_norm_rms_eps(shape["norm_eps"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    add_tokenizer(writer, folder / "bundle", shape["vocabulary"])
    with np.load(folder / "weights.npz") as weights:
        for name in weights.files:
            add_tensor(writer, gguf_name(name), weights[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_name(name: str) -> str:
    """Name of one of our parameters in the file."""
    stem = name.removesuffix(".weight")
    if stem == "embed_tokens":
        return "token_embd.weight"
    if stem == "norm":
        return "output_norm.weight"
    _, layer, part = stem.split(".", 2)
    return f"blk.{layer}.{NAMES[part]}.weight"


def add_tensor(writer: gguf.GGUFWriter, name: str, values: NDArray[np.float32]) -> None:
    """Add matrices in Q8_0, vectors in float32.

    Args:
        writer: of the file.
        name: of the tensor.
        values: its weights.
    """
    if values.ndim == 1:
        writer.add_tensor(name, values.astype(np.float32))
        return
    kind = gguf.GGMLQuantizationType.Q8_0
    packed = gguf.quants.quantize(values.astype(np.float32), kind)
    writer.add_tensor(name, packed, raw_dtype=kind)


def add_tokenizer(writer: gguf.GGUFWriter, bundle: Path, vocabulary: int) -> None:
    """Add a byte-level BPE, with the token that separates texts before every prompt.

    Args:
        writer: of the file.
        bundle: folder with tokenizer.json and special_tokens.json.
        vocabulary: rows of the embedding; those beyond the tokenizer's are unused.
    """
    tokenizer = json.loads((bundle / "tokenizer.json").read_text())
    ids = tokenizer["model"]["vocab"]
    tokens = {index: token for token, index in ids.items()}
    special = {entry["content"]: entry["id"] for entry in tokenizer["added_tokens"]}
    tokens |= {index: token for token, index in special.items()}
    kinds = [
        gguf.TokenType.CONTROL
        if tokens.get(index) in special
        else gguf.TokenType.NORMAL
        if index in tokens
        else gguf.TokenType.UNUSED
        for index in range(vocabulary)
    ]
    merges = [
        merge if isinstance(merge, str) else " ".join(merge)
        for merge in tokenizer["model"]["merges"]
    ]
    separator = json.loads((bundle / "special_tokens.json").read_text())["separator"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(index, f"<unused{index}>") for index in range(vocabulary)])
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(special[separator])
    writer.add_eos_token_id(special[separator])
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)


if __name__ == "__main__":
    write_gguf(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stdout.write(json.dumps({"bytes": Path(sys.argv[2]).stat().st_size}) + "\n")
