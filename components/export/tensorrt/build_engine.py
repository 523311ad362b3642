"""Building and running of TensorRT engines; the only module that imports TensorRT.

``tensorrt`` (data centre) is used where it is installed and builds for the GPU at hand. Else
``tensorrt_rtx`` builds ahead of time, without a GPU, for the compute capabilities asked for.
The network is strongly typed: precision is the graph's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.core.errors import MillError, error_line
from components.export.onnx.graph_builder import cache_names
from components.export.parity import Form, Ids, Logits
from components.export.parity_forms import masked_form
from models.shape import DecoderShape

THIS_GPU = "this GPU"
NOT_BUILT = "TensorRT engine not built"
DECODE, PREFILL = 0, 1
"""Optimisation profiles: one new token behind a past; whole prompts behind none."""


@dataclass(frozen=True)
class BuiltEngine:
    """A serialised engine, its builder and the GPUs it runs on."""

    engine: bytes
    builder: str
    targets: tuple[str, ...]


def _tensorrt() -> tuple[Any, str]:
    """(the module, its name and version).

    Raises:
        MillError: neither TensorRT is installed.
    """
    try:
        import tensorrt as trt
    except ImportError:
        return _tensorrt_rtx()
    return trt, f"tensorrt {trt.__version__}"


def _tensorrt_rtx() -> tuple[Any, str]:
    try:
        import tensorrt_rtx as trt
    except ImportError as error:
        raise MillError(
            f"{NOT_BUILT}: neither tensorrt nor tensorrt-rtx is installed; "
            "`pip install tensorrt-rtx`, or leave the engine out"
        ) from error
    return trt, f"tensorrt-rtx {trt.__version__}"


def build_engine(
    graph: Path, shape: DecoderShape, *, batch: int, capabilities: Sequence[str]
) -> BuiltEngine:
    """Build an engine from a plain graph.

    Args:
        graph: ``model.onnx``.
        shape: shape of the decoder.
        batch: most rows of one call.
        capabilities: GPU generations that tensorrt-rtx builds for; tensorrt takes the GPU at hand.

    Raises:
        MillError: TensorRT is absent, or refuses; the message is its own first error.
    """
    trt, name = _tensorrt()
    logger = _logger(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise MillError(_first_error(name, reasons + logger.errors))
    config = builder.create_builder_config()
    targets = _set_targets(trt, config, capabilities) if "rtx" in name else (THIS_GPU,)
    for sizes in _profiles(shape, batch):
        profile = builder.create_optimization_profile()
        for tensor, (least, best, most) in sizes.items():
            profile.set_shape(tensor, least, best, most)
        if config.add_optimization_profile(profile) < 0:
            raise MillError(_first_error(name, logger.errors))
    engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise MillError(_first_error(name, logger.errors))
    return BuiltEngine(bytes(engine), name, targets)


def _logger(trt: Any) -> Any:
    """Logger that keeps TensorRT's errors instead of printing them."""

    class ErrorLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return ErrorLog()


def _first_error(name: str, errors: Sequence[str]) -> str:
    """One line: TensorRT's first error."""
    first = error_line(errors[0]) if errors else "it gave no reason"
    return f"{NOT_BUILT}: {name} says: {first[:400]}"


def _set_targets(trt: Any, config: Any, capabilities: Sequence[str]) -> tuple[str, ...]:
    members = trt.ComputeCapability.__members__
    for capability in capabilities:
        if capability not in members:
            raise MillError(
                f"{NOT_BUILT}: this tensorrt-rtx cannot target {capability}; it knows "
                f"{', '.join(name for name in members if name.startswith('SM'))}"
            )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        config.set_compute_capability(members[capability], index)
    return tuple(capabilities)


Sizes = dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]


def _profiles(shape: DecoderShape, batch: int) -> list[Sizes]:
    """(least, best, most) of every input, for decoding and for prefilling."""
    context, usual = shape.context, max(batch // 2, 1)
    middle, quarter = max(context // 2, 1), max(context // 4, 1)
    decode = ((1, 1, 0), (usual, 1, middle - 1), (batch, 1, context - 1))
    prefill = ((1, 1, 0), (usual, quarter, 0), (batch, context, 0))
    return [_input_sizes(shape, points) for points in (decode, prefill)]


def _input_sizes(shape: DecoderShape, points: tuple[tuple[int, int, int], ...]) -> Sizes:
    """Input shapes at three points (batch, new, past)."""
    past, _ = cache_names(shape.layers)
    rows: list[dict[str, tuple[int, ...]]] = []
    for count, new, held in points:
        cache = (count, shape.kv_heads, held, shape.head_width)
        fixed = {"input_ids": (count, new), "attention_mask": (count, held + new)}
        rows.append({**fixed, **dict.fromkeys(past, cache)})
    return {name: (rows[0][name], rows[1][name], rows[2][name]) for name in rows[0]}


def find_usable_gpu(targets: Sequence[str]) -> tuple[str | None, str]:
    """Find a GPU that runs an engine for ``targets``: (its name or None, why there is none)."""
    import torch

    if not torch.cuda.is_available():
        return None, "no GPU"
    name = torch.cuda.get_device_name()
    generation = "SM{}{}".format(*torch.cuda.get_device_capability())
    if THIS_GPU in targets or generation in targets:
        return name, ""
    return None, f"{name} is {generation}, which it was not built for"


def engine_form(engine: bytes, shape: DecoderShape) -> Form:
    """Form of the engine, run on the GPU that torch sees.

    Raises:
        MillError: TensorRT cannot load it there.
    """
    import torch

    trt, name = _tensorrt()
    logger = _logger(trt)
    runtime = trt.Runtime(logger)
    loaded = runtime.deserialize_cuda_engine(engine)
    if loaded is None:
        raise MillError(_first_error(name, logger.errors).replace("not built", "not loaded"))
    context = loaded.create_execution_context()
    past, present = cache_names(shape.layers)
    half = loaded.get_tensor_dtype(past[0]) == trt.DataType.HALF
    kind = torch.float16 if half else torch.float32

    def call(ids: Ids, mask: Ids, cache: Any) -> tuple[Logits, Any]:
        _ = runtime  # must outlive the engine
        if cache is None:
            empty = (len(ids), shape.kv_heads, 0, shape.head_width)
            cache = [torch.empty(empty, dtype=kind, device="cuda") for _ in past]
        stream = torch.cuda.current_stream()
        profile = PREFILL if cache[0].shape[2] == 0 else DECODE
        context.set_optimization_profile_async(profile, stream.cuda_stream)
        tokens, held = (torch.from_numpy(x).cuda() for x in (ids, mask))
        fed = {"input_ids": tokens, "attention_mask": held, **dict(zip(past, cache, strict=True))}
        out = (len(ids), shape.kv_heads, mask.shape[1], shape.head_width)
        new_cache = {name: torch.empty(out, dtype=kind, device="cuda") for name in present}
        logits = torch.empty(*ids.shape, shape.vocabulary, device="cuda")
        spare = torch.empty(1, device="cuda")  # an empty tensor has no address of its own
        for tensor, value in {**fed, **new_cache, "logits": logits}.items():
            if tensor in fed:
                context.set_input_shape(tensor, tuple(value.shape))
            context.set_tensor_address(tensor, value.data_ptr() or spare.data_ptr())
        if not context.execute_async_v3(stream.cuda_stream):
            raise MillError(_first_error(name, logger.errors).replace("not built", "did not run"))
        stream.synchronize()
        return logits.cpu().numpy(), list(new_cache.values())

    return masked_form(call)
