"""What vLLM needs is looked for before anything starts, and missed in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from components.core.errors import ConfigError, MillError
from components.core.settings import Settings
from components.export.onnx.adapter_files import read_adapter
from components.publish.registry.model_registry import BUNDLE_TAG, RegisteredVersion
from models.decoder import Decoder
from models.shape import DecoderShape
from serving.serve_model import find_program
from serving.vllm.vllm_program import VllmSpec, find_vllm_program
from serving.vllm.vllm_server import (
    RestartPolicy,
    VllmServer,
    summarize_vllm_output,
    vllm_command,
)
from tests.export.onnx.adapter_folders import write_adapter

ENTRY = RegisteredVersion("tiny", 3, "models:/m-1", {BUNDLE_TAG: "f00d"}, ("champion",))


@pytest.fixture
def settings(tmp_path: Path, program: Path) -> Settings:
    """A workspace with a version in Hugging Face's form, and vLLM."""
    settings = Settings(tmp_path / "home", tmp_path, vllm=str(program))
    folder = ENTRY.files_folder(settings) / "hf"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (folder / "model.safetensors").write_bytes(b"")
    (folder / "parity.json").write_text("{}")
    (folder.parent / "bundle.json").write_text('{"context": 96}')
    return settings


@pytest.fixture
def devices(tmp_path: Path) -> Path:
    """A folder of device files with a GPU's."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev" / "nvidia0").touch()
    return tmp_path / "dev"


def test_a_version_is_served_from_its_form_by_its_context(
    settings: Settings, devices: Path, program: Path
) -> None:
    spec = find_vllm_program(settings, ENTRY, devices).spec
    command = vllm_command(spec, 99)
    hf = ENTRY.files_folder(settings) / "hf"
    assert command[:3] == [str(program), "serve", str(hf)]
    assert command[command.index("--max-model-len") + 1] == "96"
    assert command[command.index("--served-model-name") + 1] == "tiny"
    assert "--trust-remote-code" not in command


def test_limits_and_adapters_of_the_command_reach_vllm(
    settings: Settings, devices: Path, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    base = Decoder(DecoderShape(vocabulary=64, width=32, layers=1, hidden=32, context=16))
    write_adapter(tmp_path / "red", base, rank=12)
    write_adapter(tmp_path / "blue", base, rank=2)
    adapters = [read_adapter(name, tmp_path / name) for name in ("red", "blue")]
    found = find_vllm_program(settings, ENTRY, devices)
    spec = found.override_limits({"slots": 7, "context": 50}).add_adapters(adapters).spec
    command = vllm_command(spec, 99)
    assert command[command.index("--max-num-seqs") + 1] == "7"
    assert command[command.index("--max-model-len") + 1] == "50"
    assert command[command.index("--max-lora-rank") + 1] == "16"
    assert command[-2:] == [f"red={tmp_path / 'red'}", f"blue={tmp_path / 'blue'}"]
    assert VllmSpec.model_validate_json(spec.model_dump_json()) == spec
    for limits, says in [
        ({"threads": 2}, "--threads: a limit of the engine onnx"),
        ({"slots": 0}, "slots 0"),
        ({"context": 97}, "context 97: the model's cache holds 96"),
    ]:
        with pytest.raises(ConfigError, match=says):
            found.override_limits(limits)


def refusal(settings: Settings, devices: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        find_vllm_program(settings, ENTRY, devices)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_without_a_gpu(settings: Settings, devices: Path) -> None:
    (devices / "nvidia0").rename(devices / "nvidiactl")
    assert refusal(settings, devices).startswith("--engine vllm: no GPU here")


def test_without_vllm(settings: Settings, devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(devices))
    assert "set MODELMILL_VLLM=" in refusal(replace(settings, vllm=None), devices)
    gone = replace(settings, vllm="/nowhere/vllm")
    assert refusal(gone, devices).startswith("MODELMILL_VLLM=/nowhere/vllm: no such program")


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"architectures": ["Grok1ForCausalLM"]}, "is of class Grok1ForCausalLM, which vLLM does"),
        (
            {"architectures": ["Qwen3ForCausalLM"], "auto_map": {"AutoModel": "code.Model"}},
            "without code from its folder",
        ),
        ({}, "tiny version 3 is damaged"),
    ],
)
def test_a_folder_that_vllm_does_not_run(
    settings: Settings, devices: Path, config: dict[str, object], says: str
) -> None:
    path = ENTRY.files_folder(settings) / "hf" / "config.json"
    path.write_text(json.dumps(config))
    assert says in refusal(settings, devices)


def test_pickled_weights_are_not_served(settings: Settings, devices: Path) -> None:
    weights = ENTRY.files_folder(settings) / "hf" / "model.safetensors"
    weights.rename(weights.with_name("pytorch_model.bin"))
    assert "holds no weights as safetensors" in refusal(settings, devices)


def test_a_version_without_the_form_of_an_engine(settings: Settings, devices: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds hf and none of onnx-int8, onnx.*--engine vllm"):
        find_program(settings, ENTRY)
    files = ENTRY.files_folder(settings)
    (files / "hf").rename(files / "onnx")
    assert refusal(settings, devices).endswith("holds no form hf, which vLLM needs")
    with pytest.raises(ConfigError, match="is not packed"):
        find_program(settings, ENTRY)


def test_the_reason_of_a_failure_is_its_first_cause() -> None:
    prefix = "(EngineCore_0 pid=7) ERROR 01-31 12:00:00 [core.py:7] "
    output = f"INFO starts\n{prefix}  File x\n{prefix}torch.OutOfMemoryError: no memory\n"
    consequence = "RuntimeError: Engine core initialization failed. See root cause above.\n"
    assert summarize_vllm_output(output + consequence) == "torch.OutOfMemoryError: no memory"
    assert summarize_vllm_output(consequence) == consequence.strip()
    assert summarize_vllm_output("vllm: error: unknown option\n") == "vllm: error: unknown option"
    assert summarize_vllm_output("") == "nothing"


def test_a_server_that_dies_again_and_again_is_given_up(program: Path, tmp_path: Path) -> None:
    import asyncio

    (tmp_path / "behaviour.json").write_text('{"start": "works"}')
    spec = VllmSpec(
        program=str(program), folder=tmp_path, model="tiny", context=8, created=1,
        log=tmp_path / "log",
    )  # fmt: skip
    server = VllmServer(spec, RestartPolicy(restarts=2, pause_seconds=0.01))

    async def kill_each() -> None:
        running = asyncio.create_task(server.keep_running())
        while not running.done():
            if server.ready and server.server is not None:
                server.server.process.kill()
                (tmp_path / "behaviour.json").write_text('{"start": "fails"}')
            await asyncio.sleep(0.01)
        await running

    try:
        with pytest.raises(MillError, match=r"died 3 times in a row.*Free memory on device"):
            asyncio.run(kill_each())
    finally:
        server.stop()
