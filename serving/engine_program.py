"""Interface between ``modelmill serve`` and the engines: a program that serves one version.

An engine is a process that answers OpenAI's requests over HTTP, behind the same guard, limits,
metrics and errors, whichever computes the tokens (``infra/decisions``, 27).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol

EngineName = Literal["auto", "onnx", "vllm"]
ENGINES: tuple[EngineName, ...] = ("auto", "onnx", "vllm")
"""``auto`` is onnx: it needs no GPU and nothing beside the workspace."""
ONNX_FORMS = ("onnx-int8", "onnx")
"""Forms that the engine onnx runs, the preferred one first."""
HF_FORM = "hf"
"""Form that vLLM runs."""


class EngineProgram(Protocol):
    """Program of one engine for one version: found and checked, not yet started."""

    @property
    def engine(self) -> str:
        """Name of the engine: ``onnx`` or ``vllm``."""
        ...

    @property
    def folder(self) -> Path:
        """Folder that it serves."""
        ...

    def exec_server(self, host: str, port: int, *, as_json: bool) -> None:
        """Replace this process by the server, in the foreground; does not return.

        Args:
            host: address to listen on.
            port: port to listen on.
            as_json: report a failure as one JSON object.
        """
        ...
