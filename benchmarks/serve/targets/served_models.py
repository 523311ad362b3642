"""Models of the bench: random weights of a given shape, a tokenizer, a bundle, and prompts.

Answers must neither end early nor hold half a character. So the embeddings of special tokens and of
tokens that are no whole text are zero: as output head (the two are tied) they give them a logit of
0, where the tokens that are drawn have some 10. The final norm is scaled so that the entropy of the
next token is that of a language model, which decides how much sampling by top-p has to sort.
"""

from __future__ import annotations

import random
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.peer_programs import ROOT
from components.core.store.artifact import canonical_json
from components.export.onnx.graph_builder import GRAPH_FILE, save_graph, weights_of
from components.export.onnx.int8_cache import measure_cache_scales, quantize_cache
from components.export.onnx.served_graph import served_graph
from components.export.onnx.static_activations import measure_ranges, quantize_normed_products
from components.export.quantize import QuantizeConfig, quantize_matmuls
from components.text.chat.chat_tokenizer import ChatTokenizer, open_tokenizer
from components.text.chat.token_bytes import token_bytes
from components.text.chat.tokenizer_files import TOKENIZER_FILE, write_chat_files
from components.tokenize.train_tokenizer import TokenizerConfig, untrained_tokenizer
from models.shape import DecoderShape
from models.shape_presets import TINY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import ModelProto

    from components.export.parity import Ids
    from models.decoder import Decoder

MODEL_NAME = "bench"
FORM: Final = "onnx-int8"
MEDIUM = DecoderShape(width=512, layers=8, heads=8, kv_heads=4, hidden=1344)
"""25 M parameters, in the proportions of small models of the field: 512 channels, grouped heads."""
BENCH_SHAPES = {"3 M": TINY, "25 M": MEDIUM}

_LOGIT_DEVIATION = 3.5
"""Standard deviation of the logits. Of 4,096 normal ones the entropy is ln 4096 - 3.5**2 / 2, some
2.2 nats a token, as of a small model on text."""
_WORD = re.compile(r"[a-z]{2,10}")
"""Words of prompts: digits and punctuation are split otherwise by other tokenizers."""
WEIGHTS_FILE, SHAPE_FILE = "weights.npz", "shape.json"
FLOAT_CACHE_FILE = "float_cache.onnx"
"""The graph with weights in blocks (``MatMulNBits``), as onnxruntime-genai's own builder makes it,
and a float32 cache: it knows no INT8 cache."""


@dataclass(frozen=True)
class BenchModel:
    """A model in every form that is served: files of a bundle, and plain weights for the peers."""

    label: str
    """Its size, as figures name it."""
    shape: DecoderShape
    folder: Path
    """weights.npz, shape.json, float_cache.onnx, and a bundle's files below bundle/."""

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle"

    @cached_property
    def tokenizer(self) -> ChatTokenizer:
        return open_tokenizer(self.bundle)

    def make_prompt(self, tokens: int, seed: int) -> str:
        """Text of exactly so many tokens, the same for the same seed.

        Args:
            tokens: length, the token that opens a text not counted.
            seed: of the choice of words.
        """
        chosen = random.Random(seed)  # noqa: S311 - a reproducible choice, no secret
        text, length = "", 0
        while length < tokens:
            longer = f"{text} {chosen.choice(self._words)}".lstrip()
            count = len(self.tokenizer.encode_text(longer))
            if count <= tokens:  # else another word is tried
                text, length = longer, count
        return text

    @cached_property
    def _words(self) -> list[str]:
        return sorted({word for text in _training_texts() for word in _WORD.findall(text)})


def make_bench_model(folder: Path, label: str, shape: DecoderShape) -> BenchModel:
    """Write a model with random weights into ``folder``, equal bytes for equal shapes.

    Args:
        folder: new or empty.
        label: name of its size.
        shape: its shape, tied and dense.
    """
    bundle = folder / "bundle"
    (bundle / FORM).mkdir(parents=True)
    _write_tokenizer(bundle, shape.vocabulary)
    model = random_decoder(shape, open_tokenizer(bundle))
    blocks = served_graph(weights_of(model))
    quantize_matmuls(blocks, QuantizeConfig())
    save_graph(blocks, folder / FLOAT_CACHE_FILE)
    draw = np.random.default_rng(0)
    windows = list(draw.integers(0, shape.vocabulary, size=(4, shape.context)))
    _save_served_graph(served_graph(weights_of(model)), bundle / FORM / GRAPH_FILE, windows)
    (bundle / "bundle.json").write_bytes(canonical_json({"forms": {FORM: {"passes": True}}}))
    arrays = {name: value.detach().numpy() for name, value in model.named_parameters()}
    np.savez(folder / WEIGHTS_FILE, allow_pickle=False, **arrays)
    (folder / SHAPE_FILE).write_bytes(canonical_json(asdict(shape)))
    return BenchModel(label, shape, folder)


def _save_served_graph(graph: ModelProto, path: Path, windows: Sequence[Ids]) -> None:
    """Write a graph with all that ``quantize`` does by default where parity holds.

    Args:
        graph: float32, which is changed.
        path: its file.
        windows: texts for the ranges of activations and cache.
    """
    quantize_normed_products(graph, measure_ranges(graph, windows))
    quantize_matmuls(graph, QuantizeConfig())
    save_graph(graph, path)
    quantize_cache(graph, measure_cache_scales(path, windows))
    save_graph(graph, path)


def random_decoder(shape: DecoderShape, tokenizer: ChatTokenizer) -> Decoder:
    """Decoder with random weights whose answers are whole texts without an end.

    Args:
        shape: its shape, tied.
        tokenizer: says which tokens are no text.
    """
    import torch

    from models.decoder import Decoder

    generator = torch.Generator().manual_seed(0)
    model = Decoder(shape)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # unit variance in, unit variance out
                deviation = parameter.shape[-1] ** -0.5
                parameter.normal_(std=deviation, generator=generator)
        for token in untexted_tokens(tokenizer, shape.vocabulary):
            model.embed_tokens.weight[token] = 0
        model.norm.weight.fill_(_LOGIT_DEVIATION)
    return model


def untexted_tokens(tokenizer: ChatTokenizer, vocabulary: int) -> list[int]:
    """Tokens that are no text by themselves: special ones, parts of characters, padding."""
    table = token_bytes(tokenizer)
    table += [b""] * (vocabulary - len(table))
    special = set(tokenizer.stop_ids) | {tokenizer.separator_id}
    return [
        token
        for token, text in enumerate(table)
        if token in special
        or not text.decode("utf-8", "ignore").isprintable()
        or not text.isascii()
    ]


def _write_tokenizer(folder: Path, vocabulary: int) -> None:
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    from components.text.chat.house_template import HOUSE_TOKENS

    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(HOUSE_TOKENS),
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer = untrained_tokenizer(TokenizerConfig(vocabulary=vocabulary))
    tokenizer.train_from_iterator(_training_texts(), trainer)
    tokenizer.save(str(folder / TOKENIZER_FILE))
    write_chat_files(folder)


def _training_texts() -> list[str]:
    """Text of this checkout that every state of it has: its documentation and its programs."""
    pages = [*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("components/**/*.py"))]
    return [path.read_text(encoding="utf-8") for path in pages]
