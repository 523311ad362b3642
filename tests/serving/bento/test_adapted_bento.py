"""A real Bento whose server answers under the names of its base and of an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import httpx

from components.core.action import Workspace
from components.core.endpoint_settings import ADAPTERS_VARIABLE
from components.core.settings import Settings
from components.core.store.artifact import Bundle, Lineage, ModelVersion
from components.core.store.workdir import Workdir
from components.export.onnx.adapter_files import read_adapter
from components.text.decoder_files import load_model
from serving.adapters.adapter_build import build_adapted_graph
from serving.api.limits import EndpointLimits
from serving.bento.build_bento import PackageConfig, package
from serving.gateway.server_process import run_server
from tests.export.onnx.adapter_folders import write_adapter

VERSION = ModelVersion(
    name="models:/tiny/1", digest="1" * 64, lineage=Lineage(component="x", code="", config="")
)


def test_a_packed_server_loads_the_graph_with_adapters(
    tmp_path: Path, bundle_files: Path, decoder_folder: Path
) -> None:
    workspace = Workspace(Settings(home=tmp_path, reference_data=tmp_path))
    work = Workdir.temporary(workspace.settings.store, "components.export.bundle.bundle")
    shutil.copytree(bundle_files, work.folder, dirs_exist_ok=True)
    config = PackageConfig(limits=EndpointLimits(slots=4, threads=1))
    built = package(config, VERSION, work.seal(Bundle), workspace)
    bento = workspace.artifact_folder(built.artifact).resolve()
    write_adapter(tmp_path / "red", load_model(decoder_folder))
    adapters = [read_adapter("red", tmp_path / "red")]
    variables = {
        "BENTOML_HOME": str(workspace.settings.bentos),
        ADAPTERS_VARIABLE: str(build_adapted_graph(workspace.settings, bento, adapters)),
    }
    with run_server(bento, tmp_path / "server.log", variables, 60) as server:
        cards = httpx.get(f"{server.address}/models").json()["data"]
        body = {"prompt": "Serialize", "temperature": 0, "max_tokens": 8}
        texts = [
            httpx.post(
                f"{server.address}/completions", json={**body, "model": name}, timeout=60
            ).json()["choices"][0]["text"]
            for name in ("tiny", "red")
        ]
    assert [card["id"] for card in cards] == ["tiny", "red"]
    assert texts[0] != texts[1]
