"""Sessions of onnxruntime on the CPU, with the threads and the spinning that the user allows."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from components.core.errors import DataError, error_line
from components.core.thread_settings import Spin, spin_setting
from components.export.onnx.graph_call import ADAPTER_INPUT, GRAPH_INPUTS, GRAPH_OUTPUTS

SPINNING: dict[Spin, dict[str, str]] = {
    "none": {"session.intra_op.allow_spinning": "0"},
    "short": {"session.intra_op.spin_duration_us": "20"},
    "long": {},
}
"""Options of onnxruntime. Threads that spin between two calls take the cores from the program that
serves: beside other work 16 rows took 22 ms a step as it spins by itself, 12 to 15 with 20 us."""


@cache
def lacks_vnni(processor: Path = Path("/proc/cpuinfo")) -> bool:
    """The processor adds products of uint8 and int8 in 16 bits, where they overflow (AVX2 alone).

    onnxruntime turns the weights to uint8 there if it is asked to, and does so elsewhere too, at a
    third of the speed. A processor of this kind that cannot be asked counts as lacking it.
    """
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    return not processor.is_file() or "vnni" not in processor.read_text(encoding="utf-8")


def open_session(path: Path, threads: int | None = None) -> Any:
    """Open an onnxruntime session on the CPU; its log is silent, errors are exceptions.

    Raises:
        DataError: the file is missing or cannot be loaded.
    """
    import onnxruntime

    if not path.is_file():
        raise DataError(f"{path.name}: there is no such graph in {path.parent.name}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or 0
    options.log_severity_level = 4
    if lacks_vnni():
        options.add_session_config_entry("session.x64quantprecision", "1")
    for name, value in SPINNING[spin_setting()].items():
        options.add_session_config_entry(name, value)
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions share no base but this
        reason = error_line(error)[:300]
        raise DataError(f"{path.name}: onnxruntime cannot load it: {reason}") from error


class OnnxModel:
    """onnxruntime session over a served graph.

    Args:
        path: ``model.onnx`` (float32 or quantized; its weights may lie in files beside it).
        threads: cores for one call; None takes all.

    Raises:
        DataError: the file is missing, damaged, or not a graph of ours.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        self._path = path
        self.session = self.open(threads)
        meta = self.session.get_modelmeta().custom_metadata_map
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        names = [argument.name for argument in inputs]
        if "context" in meta and "attention_mask" in names and outputs[-1].shape[2] == "present":
            raise DataError(
                f"{path.name}: a graph of an older version, which took a mask in place of lengths: "
                "export the model again"
            )
        if "context" not in meta or names[: len(GRAPH_INPUTS)] != GRAPH_INPUTS:
            raise DataError(f"{path.name}: not a graph of export_onnx")
        self.has_adapters = names[-1] == ADAPTER_INPUT
        cache = inputs[len(GRAPH_INPUTS) : len(inputs) - self.has_adapters]
        self.context = int(meta["context"])
        self.past = [argument.name for argument in cache]
        self.present = [argument.name for argument in outputs[len(GRAPH_OUTPUTS) :]]
        self.kv_heads, self.head_width = int(cache[0].shape[1]), int(cache[0].shape[3])
        self.cache_kind: np.dtype[Any] = np.dtype("i1" if "int8" in cache[0].type else "f4")
        self.vocabulary, self.width = (int(argument.shape[2]) for argument in outputs[:2])

    def open(self, threads: int | None) -> Any:
        """Open a further session of the same graph, for ``use``; it holds the weights again.

        Raises:
            DataError: the file is missing or cannot be loaded.
        """
        return open_session(self._path, threads)

    def use(self, session: Any) -> None:
        """Switch to another session of ``open``; batches keep their keys and values."""
        self.session = session
