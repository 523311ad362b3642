"""INT8 quantization of the served graph: products of norms' outputs with static activations, others
by ``MatMulNBits``, symmetric, one scale a block.

Every matmul with a constant weight is quantized, the language-model head among them; embeddings
and norms stay float32. Activations are quantized too, by ranges measured before
(``static_activations``) or inside the kernel (``accuracy_level`` 4), which can flip an argmax, so
parity is measured on what comes out. Method: round-to-nearest by columns or blocks, absmax scaling
(LLM.int8(), arXiv:2208.07339, without its outlier columns).

model.onnx         as ``components.export.onnx.ragged_runtime`` runs it
tokenizer.json     copied from the float32 form
parity.json        how far it is from the torch model
cache_parity.json  of an INT8 cache, taken or tried: how far it moves the same weights
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.errors import DataError, MillError
from components.core.io.atomic_write import write_atomically
from components.core.log import get_logger
from components.core.store.artifact import Checkpoint, Export, Tokens, canonical_json
from components.core.store.workdir import Workdir
from components.export.onnx.graph_builder import GRAPH_FILE, Array, save_graph
from components.export.onnx.int8_cache import measure_cache_scales, quantize_cache
from components.export.onnx.static_activations import measure_ranges, quantize_normed_products
from components.export.parity import (
    Ids,
    Parity,
    ParityCase,
    ParityConfig,
    measure_parity,
    parity_cases,
    reference_model,
    ship_tokenizer,
    write_parity,
)
from components.export.parity_forms import served_form
from components.text.token_arrays import open_split

if TYPE_CHECKING:
    from onnx import ModelProto

_INT8_ACTIVATIONS = 4
"""Accuracy level of the kernel: activations are rounded too, and multiplied as integers. With
exact ones (level 0) the same graph ran at 0.02 of the speed."""
MEASURED_ON = "onnxruntime, CPU, integer activations"
CACHE_PARITY_FILE = "cache_parity.json"
CALIBRATION_WINDOWS, CALIBRATION_LENGTH = 32, 512
"""Texts of the training split, and their tokens at most, whose keys and values give the range of
an INT8 cache: their largest magnitude hardly grows beyond some thousand tokens."""
log = get_logger(__name__)


class QuantizeConfig(StageConfig):
    """INT8 quantization of the ONNX form."""

    activations: Literal["auto", "static", "static-head", "dynamic"] = Field(
        default="auto",
        description="ranges by which a matrix's inputs are rounded: dynamic, found in every step; "
        "static, measured once on training text for outputs of norms, which are bounded: several "
        "streams decode and prompts are read in less time, one stream in some 4 % more; "
        "static-head, at the output head alone; auto, the first of static, static-head and "
        "dynamic that keeps parity",
    )

    block: Literal[16, 32, 64, 128] = Field(
        default=64,
        description="weights of a layer that share a scale; smaller blocks are nearer to the "
        "model, larger ones quicker",
    )
    head_block: Literal[16, 32, 64, 128] = Field(
        default=32,
        description="the same for the output head, whose error goes straight into the logits",
    )
    cache: Literal["auto", "float32", "int8"] = Field(
        default="auto",
        description="keys and values of past tokens; int8 decodes in less time and a quarter of "
        "the memory, most of all many streams at a time, and reads prompts in more; auto takes "
        "int8 where it keeps cache_parity and parity, else float32",
    )
    parity: ParityConfig = Field(
        default=ParityConfig(kl_max=2e-3, top1_min=0.97, difference_max=1.0),
        description="bounds against the torch model",
    )
    cache_parity: ParityConfig = Field(
        default=ParityConfig(kl_max=2e-3, top1_min=0.97, difference_max=1.0),
        description="bounds of an int8 cache, against the same weights with a float32 cache",
    )


def quantize(
    config: QuantizeConfig, model: Checkpoint, onnx: Export, tokens: Tokens, work: Workdir
) -> Export:
    """Quantize the weights of the ONNX form to INT8, and measure parity with the torch model.

    Args:
        config: blocks, cache and bounds.
        model: the checkpoint, for reference.
        onnx: the float32 form.
        tokens: held-out text to measure on; training text for the range of an INT8 cache.
        work: folder of the INT8 form and its parity record.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input is damaged.
        MillError: a matmul was passed over, or the file is no smaller.
    """
    work.progress.start_count(3, "steps")
    source, target = work.artifact_folder(onnx), work.folder / GRAPH_FILE
    text = work.artifact_folder(tokens)
    pages = ship_tokenizer("int8", work.artifact_folder(model), text, source, work.folder)
    reference = reference_model(work.artifact_folder(model))
    cases = parity_cases(reference, text, config.parity)
    work.progress.advance(note="reference")
    windows: list[Ids] = []
    if config.cache != "float32" or config.activations != "dynamic":
        windows = _calibration_windows(text, reference.shape.context)
    draft = _Draft(source / GRAPH_FILE, target, config, cases, windows, pages)
    form = draft.write_best()
    before = sum(path.stat().st_size for path in source.glob(f"{GRAPH_FILE}*"))
    if form.bytes >= before:
        raise MillError(f"quantize: {form.bytes} bytes are no fewer than the {before} of float32")
    work.progress.advance(note=f"{form.matmuls} matmuls")
    if form.cache is not None:
        record = canonical_json(form.cache.model_dump(mode="json"))
        write_atomically(work.folder / CACHE_PARITY_FILE, record)
    write_parity(work.folder, form.parity)
    work.progress.advance(note=form.parity.note)
    moved = form.cache.stats if form.cache else {}
    return work.seal(
        Export,
        stats={
            "bytes": form.bytes,
            "bytes_before": before,
            "matmuls": form.matmuls,
            "static_matmuls": form.static,
            **form.parity.stats,
            **{f"cache_{name}": value for name, value in moved.items()},
        },
    )


@dataclass(frozen=True)
class _Form:
    """A graph as it was written, and what was measured of it."""

    bytes: int
    matmuls: int
    static: int
    """Matmuls with static activations."""
    parity: Parity
    cache: Parity | None
    """Of an INT8 cache alone, where one was tried."""
    cache_cost: str = ""
    """The reason why an INT8 cache that was asked for is not taken, or does not pass."""

    @property
    def final(self) -> bool:
        """No other activations would do better: parity holds, and with the cache if that does."""
        cache_lost = self.cache is not None and self.cache.passes and bool(self.cache_cost)
        return self.parity.passes and not cache_lost


@dataclass(frozen=True)
class _Draft:
    """The form to be written, and what it is measured on."""

    source: Path
    target: Path
    config: QuantizeConfig
    cases: Sequence[ParityCase]
    windows: Sequence[Ids]
    """Texts of the training split, for ranges of activations and of the cache."""
    pages: int
    """Held-out pages that the shipped tokenizer encodes as it should."""

    def write_best(self) -> _Form:
        """Write the form with the most static activations that keeps parity."""
        tries = _tried_activations(self.config.activations)
        for activations in tries:
            form = self.write(activations)
            if form.final or activations == tries[-1]:
                break
            reason = form.cache_cost or str(form.parity)
            log.warning("onnx-int8 without %s activations: %s", activations, reason)
        if form.cache_cost:
            log.warning(form.cache_cost)
        return form

    def write(self, activations: str) -> _Form:
        """Write and measure the form with these activations.

        Args:
            activations: static, static-head or dynamic.
        """
        graph = read_onnx_graph(self.source)
        static = 0
        if activations != "dynamic":
            ranges = measure_ranges(graph, self.windows)
            head_only = activations == "static-head"
            static = quantize_normed_products(graph, ranges, head_only=head_only)
        matmuls = static + quantize_matmuls(graph, self.config)
        size = save_graph(graph, self.target)
        where = MEASURED_ON if activations == "dynamic" else f"{MEASURED_ON}, {activations}"
        parity = self.measure(where)
        if self.config.cache == "float32":
            return _Form(size, matmuls, static, parity, None)
        cached = quantize_cache_of(self.target, self.windows, self.cases, self.config.cache_parity)
        together = self.measure(f"{where}, INT8 cache")
        if cached.passes and together.passes:
            return _Form(size, matmuls, static, together, cached)
        failing = together if cached.passes else cached
        if self.config.cache == "auto":
            save_graph(graph, self.target)
            cost = f"onnx-int8 keeps its float32 cache: {failing}"
            return _Form(size, matmuls, static, parity, cached, cost)
        parity = together.model_copy(update={"passes": False})
        cost = f"onnx-int8 does not pass, since its cache does not: {failing}"
        return _Form(size, matmuls, static, parity, cached, cost)

    def measure(self, where: str) -> Parity:
        """Parity of the written graph with the torch model.

        Args:
            where: what it is measured on.
        """
        return measure_parity(
            served_form(self.target),
            self.cases,
            self.config.parity,
            name="onnx-int8",
            measured_on=where,
            tokenizer_pages=self.pages,
        )


def _tried_activations(wish: str) -> tuple[str, ...]:
    return ("static", "static-head", "dynamic") if wish == "auto" else (wish,)


def quantize_cache_of(
    path: Path, windows: Sequence[Ids], cases: Sequence[ParityCase], bounds: ParityConfig
) -> Parity:
    """Give a saved graph an INT8 cache, and measure what that alone changes.

    Args:
        path: the graph with a float32 cache, which is written over.
        windows: texts whose keys and values give the range of the cache.
        cases: inputs to measure on; the graph as it was gives the expected logits.
        bounds: of the change.
    """
    scales = measure_cache_scales(path, windows)
    form = served_form(path)
    before = [replace(case, expected=list(form(case.rows, case.steps))) for case in cases]
    graph = read_onnx_graph(path)
    quantize_cache(graph, scales)
    save_graph(graph, path)
    parity = measure_parity(
        served_form(path), before, bounds, name="onnx-int8 cache", measured_on=MEASURED_ON
    )
    return parity.model_copy(update={"reference": "the same weights with a float32 cache"})


def _calibration_windows(tokens: Path, context: int) -> list[Ids]:
    """Windows of the training split, none of which parity is measured on, evenly spread.

    Raises:
        DataError: there is no training text.
    """
    split = open_split(tokens, "train").tokens
    length = min(context, CALIBRATION_LENGTH, len(split))
    if not length:
        raise DataError(f"{tokens.name}: no training tokens to find the range of an INT8 cache on")
    starts = np.unique(np.linspace(0, len(split) - length, CALIBRATION_WINDOWS).astype(int))
    return [np.asarray(split[start : start + length], dtype=np.int64) for start in starts]


def read_onnx_graph(path: Path) -> ModelProto:
    """Load a saved graph with its weights.

    Raises:
        DataError: it is missing or damaged.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return onnx.load(path)
    except (OSError, DecodeError) as error:
        raise DataError(f"{path.parent.name}: {path.name} cannot be read: {error}") from error


def quantize_matmuls(graph: ModelProto, config: QuantizeConfig) -> int:
    """Replace the weight of every matmul by INT8 blocks, in place; returns how many there were.

    Raises:
        MillError: a matmul multiplies by something else than a weight, and would stay as it is.
    """
    from onnx import helper, numpy_helper

    weights = {tensor.name: tensor for tensor in graph.graph.initializer}
    matmuls = [node for node in graph.graph.node if node.op_type == "MatMul"]
    for node in matmuls:
        name = node.input[1]
        if name not in weights:
            raise MillError(f"quantize: {node.name} multiplies by {name}, which is no weight")
        weight = numpy_helper.to_array(weights[name])
        block = config.head_block if node.output[0] == "logits" else config.block
        values, scales = quantize_blocks(weight, block)
        graph.graph.initializer.remove(weights.pop(name))
        parts = {f"{name}.int8": values, f"{name}.scales": scales}
        graph.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in parts.items())
        node.op_type, node.domain = "MatMulNBits", "com.microsoft"
        node.input[1:] = parts
        size = {"K": weight.shape[0], "N": weight.shape[1], "bits": 8, "block_size": block}
        size["accuracy_level"] = _INT8_ACTIVATIONS
        node.attribute.extend(helper.make_attribute(key, value) for key, value in size.items())
    return len(matmuls)


def quantize_blocks(weight: Array, block: int) -> tuple[Array, Array]:
    """Quantize [in, out] float32 to (uint8 [out, blocks, block], float32 scales [out, blocks]).

    A weight is (value - 128) * scale, with scale = largest magnitude of the block / 127: values are
    symmetric around the zero point 128, so that 0 stays 0.
    """
    inputs, outputs = weight.shape
    count = -(-inputs // block)
    padded = np.zeros((outputs, count * block), dtype=np.float32)
    padded[:, :inputs] = weight.T
    blocks = padded.reshape(outputs, count, block)
    scales = np.abs(blocks).max(-1) / np.float32(127)
    steps = np.divide(
        blocks, scales[..., None], out=np.zeros_like(blocks), where=scales[..., None] > 0
    )
    return (np.rint(steps) + 128).astype(np.uint8), scales
