"""Choice of vLLM for a version: the program, a GPU and a folder that it can run, all checked."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from components.core.errors import ConfigError
from components.core.settings import Settings
from components.publish.registry.model_registry import RegisteredVersion
from serving.api.limits import EndpointLimits, check_context, override_limits
from serving.engine_program import HF_FORM

if TYPE_CHECKING:
    from components.export.onnx.adapter_files import ServedAdapter

ARCHITECTURES = frozenset(
    {"LlamaForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM", "MixtralForCausalLM"}
)
"""Classes that ``export_hf`` writes, all of which vLLM runs without code from a folder."""
VLLM_LIMITS = EndpointLimits(slots=256, queue=256)
"""256 is vLLM's own default of sequences together; a GPU is idle with an engine's 16."""
_ONNX_LIMITS = frozenset({"threads", "prefill_tokens", "wait_seconds"})
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that vLLM's ``--max-lora-rank`` takes."""
MAX_VLLM_RANK = VLLM_RANKS[-1]
_BUNDLE_FILE = "bundle.json"
_GPU_DEVICES = re.compile(r"nvidia\d+|kfd")
"""Device files of NVIDIA's GPUs, and of AMD's compute driver."""
_INSTALL = (
    "install it into an environment of its own (`python3 -m venv vllm; vllm/bin/pip install "
    "'vllm>=0.10'`) and set MODELMILL_VLLM=vllm/bin/vllm"
)


class VllmSpec(BaseModel):
    """All that the endpoint in front of vLLM is told; holds no secret."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    program: str
    """vLLM's program."""
    folder: Path
    """Folder in Hugging Face's format."""
    model: str
    """Registered name, which requests ask for."""
    context: int
    """Tokens of prompt and answer together."""
    created: int
    """Unix seconds."""
    log: Path
    """File of vLLM's output."""
    adapters: dict[str, Path] = {}
    """Name -> folder in PEFT's format, which is vLLM's too."""
    max_rank: int = 0
    """Highest rank of the adapters."""
    limits: EndpointLimits = VLLM_LIMITS


@dataclass(frozen=True)
class VllmProgram:
    """A version that vLLM is ready to serve."""

    spec: VllmSpec
    engine: str = "vllm"

    @property
    def folder(self) -> Path:
        """Folder in Hugging Face's format."""
        return self.spec.folder

    def override_limits(self, limits: Mapping[str, object]) -> VllmProgram:
        """The same program with some limits replaced.

        Raises:
            ConfigError: a limit is not one of vLLM's, out of its bounds or beyond the model.
        """
        if own := sorted(_ONNX_LIMITS & limits.keys()):
            option = own[0].replace("_", "-")
            raise ConfigError(f"--{option}: a limit of the engine onnx, which vLLM does not have")
        replaced = override_limits(self.spec.limits, limits)
        context = check_context(replaced, self.spec.context)
        return VllmProgram(self.spec.model_copy(update={"limits": replaced, "context": context}))

    def add_adapters(self, adapters: Sequence[ServedAdapter]) -> VllmProgram:
        """The same program with adapters beside the model."""
        folders = {adapter.name: adapter.folder.resolve() for adapter in adapters}
        rank = max((adapter.rank for adapter in adapters), default=0)
        if rank > MAX_VLLM_RANK:
            raise ConfigError(
                f"--adapter: a rank of {rank} is more than vLLM's {MAX_VLLM_RANK}; "
                "`modelmill serve --engine onnx` serves it"
            )
        return VllmProgram(self.spec.model_copy(update={"adapters": folders, "max_rank": rank}))

    def exec_server(self, host: str, port: int, *, as_json: bool) -> None:
        """Replace this process by the endpoint in front of vLLM; does not return.

        Args:
            host: address to listen on.
            port: port to listen on.
            as_json: report a failure as one JSON object.
        """
        words = [self.spec.model_dump_json(), host, str(port), *(["--json"] if as_json else [])]
        command = [sys.executable, "-m", "serving.vllm.vllm_endpoint", *words]
        os.execv(sys.executable, command)  # noqa: S606


def find_vllm_program(
    settings: Settings, entry: RegisteredVersion, devices: Path = Path("/dev")
) -> VllmProgram:
    """Find vLLM, a GPU and the version's Hugging Face form.

    Args:
        settings: workspace, and the program that MODELMILL_VLLM names.
        entry: the version to serve.
        devices: folder of device files.

    Raises:
        ConfigError: one of them is missing, or vLLM cannot run the form; says the way on.
    """
    files = entry.files_folder(settings)
    version = f"{entry.model} version {entry.version}"
    context = check_hf_folder(files, version)
    program = _find_executable(settings.vllm)
    if not any(_GPU_DEVICES.fullmatch(path.name) for path in devices.iterdir()):
        raise ConfigError(
            "--engine vllm: no GPU here; `modelmill serve --engine onnx` serves on processors"
        )
    return VllmProgram(
        VllmSpec(
            program=program,
            folder=(files / HF_FORM).resolve(),
            model=entry.model,
            context=context,
            created=int((files / _BUNDLE_FILE).stat().st_mtime),
            log=settings.logs / f"vllm-{entry.model}-{entry.version}.log",
        )
    )


def check_hf_folder(files: Path, version: str) -> int:
    """Check that a version's ``hf`` form is there and one that vLLM runs; returns its context.

    Args:
        files: files of the version, its ``bundle.json`` among them.
        version: its name, for the message.

    Raises:
        ConfigError: it is not.
    """
    folder = files / HF_FORM
    if not folder.is_dir():
        raise ConfigError(f"--engine vllm: {version} holds no form {HF_FORM}, which vLLM needs")
    context = _read_object(files / _BUNDLE_FILE, version).get("context")
    config = _read_object(folder / "config.json", version)
    classes = config.get("architectures")
    if not isinstance(context, int) or not isinstance(classes, list):
        raise ConfigError(f"--engine vllm: {version} is damaged: it names no context or no class")
    if "auto_map" in config or not classes or not ARCHITECTURES.issuperset(map(str, classes)):
        named = ", ".join(map(str, classes)) or "none"
        raise ConfigError(
            f"--engine vllm: {version} is of class {named}, which vLLM does not run without code "
            f"from its folder; it runs {', '.join(sorted(ARCHITECTURES))}"
        )
    if not any(folder.glob("*.safetensors")):
        raise ConfigError(f"--engine vllm: {version} holds no weights as safetensors")
    return context


def _read_object(path: Path, version: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--engine vllm: {version} is damaged: {path.name} cannot be read: {error}"
        ) from error
    return content if isinstance(content, dict) else {}


def _find_executable(named: str | None) -> str:
    """Path of vLLM's program: the one that is named, else on PATH or beside this Python.

    Raises:
        ConfigError: there is none.
    """
    if named is not None:
        if found := shutil.which(Path(named).expanduser()):
            return str(Path(found).absolute())
        raise ConfigError(f"MODELMILL_VLLM={named}: no such program; give the path of `bin/vllm`")
    if found := shutil.which("vllm") or shutil.which("vllm", path=Path(sys.executable).parent):
        return str(Path(found).absolute())
    raise ConfigError(f"--engine vllm: vLLM is not installed: {_INSTALL}")
