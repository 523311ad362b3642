"""Export to ONNX with a KV cache: the float32 graph that serving runs on a CPU.

model.onnx      see ``components.export.onnx.ragged_runtime`` for how it is called
tokenizer.json  so that the folder is enough to talk to it
parity.json     how far it is from the torch model
"""

from __future__ import annotations

from pydantic import Field

from components.core.config.stage_config import StageConfig
from components.core.store.artifact import Checkpoint, Export, Tokenizer, Tokens
from components.core.store.workdir import Workdir
from components.export.onnx.graph_builder import GRAPH_FILE, save_graph, weights_of
from components.export.onnx.served_graph import served_graph
from components.export.parity import (
    ParityConfig,
    measure_parity,
    parity_cases,
    reference_model,
    ship_tokenizer,
    write_parity,
)
from components.export.parity_forms import served_form

MEASURED_ON = "onnxruntime, CPU"


class OnnxConfig(StageConfig):
    """Bounds of the float32 ONNX form."""

    parity: ParityConfig = Field(
        default=ParityConfig(), description="bounds against the torch model"
    )


def export_onnx(
    config: OnnxConfig, model: Checkpoint, tokens: Tokens, tokenizer: Tokenizer, work: Workdir
) -> Export:
    """Write the served graph of a model, and measure its parity.

    Args:
        config: bounds.
        model: the checkpoint to export.
        tokens: held-out text to measure on.
        tokenizer: shipped beside the graph.
        work: folder of the ONNX form and its parity record.

    Raises:
        ConfigError: the inputs are of different tokenizers.
        DataError: an input is damaged, or holds no held-out tokens.
    """
    work.progress.start_count(3, "steps")
    pages = ship_tokenizer(
        "onnx",
        work.artifact_folder(model),
        work.artifact_folder(tokens),
        work.artifact_folder(tokenizer),
        work.folder,
    )
    reference = reference_model(work.artifact_folder(model))
    size = save_graph(served_graph(weights_of(reference)), work.folder / GRAPH_FILE)
    work.progress.advance(note="graph")
    cases = parity_cases(reference, work.artifact_folder(tokens), config.parity)
    work.progress.advance(note="reference")
    form = served_form(work.folder / GRAPH_FILE)
    parity = measure_parity(
        form, cases, config.parity, name="onnx", measured_on=MEASURED_ON, tokenizer_pages=pages
    )
    write_parity(work.folder, parity)
    work.progress.advance(note=parity.note)
    return work.seal(Export, stats={"bytes": size, **parity.stats})
