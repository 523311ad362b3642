"""Export to a TensorRT engine with a KV cache, beside the plain ONNX graph it is built from.

model.onnx             the graph handed to the builder; its bytes are the artifact's digest
engine.json            precision, targets, batch, context: what was asked for
parity.json
volatile/model.engine  the engine: TensorRT's bytes differ between equal builds
volatile/builder.json  which TensorRT built it, and the engine's size

An engine only runs on a GPU. Where torch sees one that it was built for, parity is measured on
the engine; elsewhere on the graph, with onnxruntime, and ``measured_on`` says so.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.io.atomic_write import write_atomically
from components.core.store.artifact import Checkpoint, Export, Tokens, canonical_json
from components.core.store.workdir import Workdir
from components.export.onnx.graph_builder import GRAPH_FILE, save_graph, weights_of
from components.export.onnx.plain_graph import plain_graph
from components.export.parity import (
    ParityConfig,
    measure_parity,
    parity_cases,
    reference_model,
    write_parity,
)
from components.export.parity_forms import plain_form
from components.export.tensorrt.build_engine import build_engine, engine_form, find_usable_gpu
from components.text.chat.tokenizer_identity import (
    check_one_tokenizer,
    record_of_model,
    record_of_tokens,
)

ENGINE_FILE = "model.engine"
Capability = Literal["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
_BOUNDS = {
    "float16": ParityConfig(kl_max=1e-5, top1_min=0.99, difference_max=0.1),
    "float32": ParityConfig(),
}


class EngineConfig(StageConfig):
    """Precision, batch, targets and bounds of the TensorRT form."""

    precision: Literal["float16", "float32"] = Field(
        default="float16",
        description="dtype of weights and matmuls; norms and softmax are float32 in both",
    )
    batch: int = Field(default=8, ge=1, le=256, description="most rows of one call")
    capabilities: tuple[Capability, ...] = Field(
        default=("SM75", "SM80", "SM86", "SM89", "SM120"),
        min_length=1,
        description="GPU generations that tensorrt-rtx builds for; tensorrt takes the GPU at hand; "
        "experimental: no engine has run on a GPU yet",
    )
    parity: ParityConfig | None = Field(
        default=None,
        description="bounds against the torch model; None takes those of the precision",
    )


def export_engine(config: EngineConfig, model: Checkpoint, tokens: Tokens, work: Workdir) -> Export:
    """Write the plain graph, build the engine from it, and measure parity.

    Args:
        config: precision, batch, targets and bounds.
        model: the checkpoint to export.
        tokens: held-out text to measure on.
        work: folder of the engine and its parity record.

    Raises:
        ConfigError: model and tokens are of different tokenizers.
        MillError: TensorRT is not installed or refuses; its own reason is in the message.
        DataError: an input is damaged, or holds no held-out tokens.
    """
    work.progress.start_count(4, "steps")
    check_one_tokenizer(
        "engine",
        record_of_model(work.artifact_folder(model)),
        record_of_tokens(work.artifact_folder(tokens)),
    )
    reference = reference_model(work.artifact_folder(model))
    shape, path = reference.shape, work.folder / GRAPH_FILE
    graph = plain_graph(weights_of(reference), half=config.precision == "float16")
    size = save_graph(graph, path)
    work.progress.advance(note="graph")
    built = build_engine(path, shape, batch=config.batch, capabilities=config.capabilities)
    write_atomically(work.volatile / ENGINE_FILE, built.engine)
    built_by = {"builder": built.builder, "bytes": len(built.engine), "targets": built.targets}
    write_atomically(work.volatile / "builder.json", canonical_json(built_by))
    settings = {**config.model_dump(mode="json", exclude={"parity"}), "context": shape.context}
    write_atomically(work.folder / "engine.json", canonical_json(settings))
    work.progress.advance(note="engine")
    bounds = config.parity or _BOUNDS[config.precision]
    bounds = bounds.model_copy(update={"batch": min(bounds.batch, config.batch)})
    cases = parity_cases(reference, work.artifact_folder(tokens), bounds)
    work.progress.advance(note="reference")
    gpu, reason = find_usable_gpu(built.targets)
    if gpu is None:
        form, where = plain_form(path), f"graph (onnxruntime); engine not run: {reason}"
    else:
        form, where = engine_form(built.engine, shape), f"engine on {gpu}"
    parity = measure_parity(form, cases, bounds, name="tensorrt", measured_on=where)
    write_parity(work.folder, parity)
    work.progress.advance(note=parity.note)
    stats = {"bytes": len(built.engine), "graph_bytes": size, **parity.stats}
    return work.seal(Export, stats=stats)
